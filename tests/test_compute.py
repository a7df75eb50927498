"""The choice of device and number format, and the number of threads."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import kdad.compute
from kdad import detectors
from kdad.compute import Compute, bfloat16_is_native, choose_compute, limit_threads, usable_cores
from kdad.errors import InputError
from projects import SMALL, copy_project, logged_runs, run_pipeline

_CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that the machine has just these devices and instructions."""

    def pretend(cuda=False, mps=False, cuda_bfloat16=False, cpu_bfloat16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda_bfloat16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bfloat16)

    return pretend


@pytest.mark.parametrize(
    ("devices", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_auto_takes_the_fastest_device_there_is(machine, devices, expected):
    machine(**devices)
    assert choose_compute().device.type == expected
    assert choose_compute("cpu").device.type == "cpu"


@pytest.mark.parametrize(
    ("devices", "device", "expected"),
    [
        ({"cpu_bfloat16": True}, "cpu", torch.bfloat16),
        ({"cuda_bfloat16": True}, "cpu", torch.float32),
        ({"cuda": True, "cuda_bfloat16": True}, "cuda", torch.bfloat16),
        ({"cuda": True, "cpu_bfloat16": True}, "cuda", torch.float32),
        ({"mps": True, "cpu_bfloat16": True}, "mps", torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_that_device_multiplies_it(machine, devices, device, expected):
    machine(**devices)
    assert bfloat16_is_native(torch.device(device)) == (expected == torch.bfloat16)
    assert choose_compute(device).dtype == expected
    assert choose_compute(device, "float32").dtype == torch.float32
    assert choose_compute(device, "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_input_error(machine, device):
    machine()
    with pytest.raises(InputError, match=f"compute.device is '{device}', which this machine does not have; use 'auto'"):
        choose_compute(device)


def test_description_is_plain_text():
    assert Compute(_CPU, torch.bfloat16).describe() == {"device": "cpu", "dtype": "bfloat16"}
    assert Compute(torch.device("cuda", 1), torch.float32).describe() == {"device": "cuda", "dtype": "float32"}


@pytest.mark.parametrize(("device", "channels_last"), [("cpu", True), ("cuda", True), ("mps", False)])
def test_memory_layout_by_device(device, channels_last):
    expected = torch.channels_last if channels_last else torch.contiguous_format
    assert Compute(torch.device(device), torch.float32).memory_format == expected


def test_modules_and_batches_are_laid_out_alike_and_keep_their_values():
    compute = Compute(_CPU, torch.float32)
    batch = torch.rand(2, 3, 4, 5)
    convolution = nn.Conv2d(3, 6, 3)
    weight = convolution.weight.detach().clone()
    assert compute.place(convolution) is convolution
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert compute.move(batch).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(convolution.weight, weight)
    assert torch.equal(compute.move(batch), batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_runs_convolutions_in_the_format_and_keeps_parameters(dtype):
    convolution = nn.Conv2d(3, 6, 3)
    with Compute(_CPU, dtype).autocast():
        assert convolution(torch.rand(1, 3, 5, 5)).dtype == dtype
    assert convolution.weight.dtype == torch.float32
    assert convolution(torch.rand(1, 3, 5, 5)).dtype == torch.float32


def test_threads_are_limited_to_what_this_process_may_use(monkeypatch):
    chosen = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 9}, raising=False)
    limit_threads(None)
    limit_threads(7)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    limit_threads(None)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the share of one of a host's workers
    limit_threads(None)
    limit_threads(7)
    assert chosen == [3, 7, 12, 2, 7]


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 3), ("150000 100000", 2), ("50000 100000", 1), ("800000 100000", 3)]
)
def test_a_containers_quota_limits_threads(monkeypatch, tmp_path, quota, cores):
    _set_groups(monkeypatch, tmp_path, "0::/\n", {"cpu.max": quota})
    assert usable_cores() == cores


def _set_groups(monkeypatch, place, own, files):
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{text}\n")
    place.mkdir(parents=True, exist_ok=True)
    (place / "own").write_text(own)
    monkeypatch.setattr(kdad.compute, "_GROUPS", place)
    monkeypatch.setattr(kdad.compute, "_OWN_GROUP", place / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 9}, raising=False)


def test_the_least_quota_of_a_group_and_those_above_counts_in_both_versions(monkeypatch, tmp_path):
    nested = {"a.slice/cpu.max": "100000 100000", "a.slice/b.service/cpu.max": "250000 100000"}
    _set_groups(monkeypatch, tmp_path / "nested", "0::/a.slice/b.service\n", nested)
    assert usable_cores() == 1
    old = {"cpu/docker/x/cpu.cfs_quota_us": "200000", "cpu/docker/x/cpu.cfs_period_us": "100000"}
    _set_groups(monkeypatch, tmp_path / "old", "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n", old)
    assert usable_cores() == 2
    none = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    _set_groups(monkeypatch, tmp_path / "none", "3:cpu:/elsewhere\n", none)
    assert usable_cores() == 3
    _set_groups(monkeypatch, tmp_path / "no_linux", "", {})
    assert usable_cores() == 3


def test_a_detector_is_opened_in_one_thread_and_predicts_in_those_asked_for(detector_folder, monkeypatch):
    during = []
    original = torch.nn.Module.eval
    monkeypatch.setattr(torch.nn.Module, "eval", lambda self: during.append(torch.get_num_threads()) or original(self))
    monkeypatch.setattr(kdad.compute, "usable_cores", lambda: 2)
    torch.set_num_threads(3)
    detectors.load(detector_folder)
    assert (set(during), torch.get_num_threads()) == ({1}, 2)  # three get no more time than two
    detectors.load(detector_folder, threads=3)
    assert torch.get_num_threads() == 3
    for wrong in (0, -1, 1.5):
        with pytest.raises(InputError, match="threads is"):
            detectors.load(detector_folder, threads=wrong)


@pytest.mark.parametrize("given", [None, pytest.param("ACTIVE", marks=pytest.mark.long)])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(given):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": given} if given else {})
    command = [sys.executable, "-c", "import kdad.compute"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    assert f"OMP_WAIT_POLICY = '{given or 'PASSIVE'}'" in shown


def test_images_go_to_a_cuda_device_by_pinned_memory():
    moved = []

    class Batch:
        device = _CPU

        def contiguous(self, **layout):
            moved.append(("contiguous", layout))
            return self

        def pin_memory(self):
            moved.append(("pin_memory", {}))
            return self

        def to(self, **where):
            moved.append(("to", where))

    Compute(torch.device("cuda"), torch.float32).move(Batch())
    assert moved == [
        ("contiguous", {"memory_format": torch.channels_last}),
        ("pin_memory", {}),
        ("to", {"device": torch.device("cuda"), "non_blocking": True}),
    ]


def test_nothing_is_compiled_unless_it_is_asked_for():
    network = nn.Linear(2, 2)
    chosen = choose_compute("cpu", "float32")
    assert chosen.compiled(network) is network
    assert "compile" not in chosen.describe()


def test_a_machine_that_cannot_compile_is_an_input_error(monkeypatch):
    def fail(function):
        raise RuntimeError("no C++ compiler\nand a long tale")

    monkeypatch.setattr(torch, "compile", fail)
    kdad.compute._require_compiler.cache_clear()
    with pytest.raises(InputError, match=r"compute.compile is true.*for 'cpu' here \(.*no C\+\+ compiler\); install"):
        choose_compute("cpu", "float32", compiled=True)


@pytest.mark.long
def test_compiled_networks_are_those_that_are_not_compiled(tmp_path, migrated_database):
    """Whole runs: what was learnt differs in rounding alone."""
    found = {}
    for compiled in (False, True):
        project = copy_project(tmp_path / str(compiled), migrated_database)
        given = SMALL | {"compute": {"compile": compiled, "precision": "float32"}}
        run_pipeline(project, "test", "mkd", runtime_params=given)
        found[compiled] = {
            run.data.tags["mlflow.runName"] + name: value
            for run in logged_runs(project)
            for name, value in run.data.metrics.items()
            if name.endswith(("image_auroc", "pixel_auroc"))
        }
    assert found[True] == pytest.approx(found[False], abs=0.02)
    assert found[True]


_CODE = """
import resource, sys
import torch
from kdad.compute import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
elif sys.argv[1] == "asked":
    assert not keep_freed_memory()
for _ in range(20):  # until the heap has found its size
    torch.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
#: Of 48 MB, ten times; large pages would hide them.
_PAGES = 10 * 48_000_000 // 4096


def _faults(what: str, **environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _CODE, what]
    return int(subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def left_alone() -> int:
    """How many pages are fetched where malloc is as it is."""
    if not sys.platform.startswith("linux"):
        pytest.skip("of glibc alone")
    found = _faults("leave")
    if found < _PAGES / 2:
        pytest.skip("this malloc keeps large blocks by itself, or pages are large")
    return found


@pytest.mark.long
def test_freed_tensors_are_used_again_without_being_fetched_anew(left_alone):
    assert _faults("keep") < left_alone / 50


@pytest.mark.long
def test_so_they_are_in_a_worker_of_dask_that_was_told_to_give_memory_back_at_once(left_alone):
    assert _faults("keep", MALLOC_TRIM_THRESHOLD_="65536") < left_alone / 50


@pytest.mark.long
def test_who_has_set_a_threshold_of_blocks_keeps_it(left_alone):
    assert _faults("asked", MALLOC_MMAP_THRESHOLD_="1048576") > left_alone / 2
