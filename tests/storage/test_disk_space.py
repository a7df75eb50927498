"""Room is taken before a memory map is written; a full disk is one message, and leaves nothing half written."""

import errno
import gc
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from kdad.datasets.results import MapStackDataset
from kdad.storage import disk_space
from kdad.storage.disk_space import DiskFullError, create_map, disk_full_error, is_full, zeros
from kdad.storage.replacing import replace_text, replacing
from kdad.training.loop import CheckpointFile

_MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "none", place]).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def small_files():
    """Let this process write files of at most 1 MiB, which works everywhere."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_map_is_of_zeros_and_its_room_is_taken(tmp_path):
    array = create_map(tmp_path / "map.npy", np.float32, (256, 1024))
    assert (array.shape, array.dtype, array.any()) == ((256, 1024), np.float32, False)
    assert (tmp_path / "map.npy").stat().st_blocks * 512 >= _MIB
    array[3] = 7
    array.flush()
    assert np.load(tmp_path / "map.npy").sum() == 7 * 1024


def test_a_map_without_values_takes_no_room(tmp_path):
    create_map(tmp_path / "map.npy", np.float32, (0, 3))
    assert np.load(tmp_path / "map.npy").shape == (0, 3)


def test_a_map_without_room_names_the_place_and_what_is_missing_and_leaves_no_file(small_disk):
    with pytest.raises(DiskFullError) as caught:
        create_map(small_disk / "gradients.npy", np.float32, (3, 1024, 1024))
    # 3 * 4 MiB = 12.6 MB needed, 2 MiB = 2.1 MB less the file's head there
    assert str(caught.value) == (
        f"the disk is full: 'gradients.npy' needs 12.6 MB in '{small_disk}', where 2.1 MB are free; free some space "
        "and run again"
    )
    assert list(small_disk.iterdir()) == []


def test_a_map_larger_than_a_file_may_be_leaves_no_file(tmp_path, small_files):
    with pytest.raises(DiskFullError, match=r"'gradients\.npy' needs 4\.2 MB"):
        create_map(tmp_path / "gradients.npy", np.float32, (1, 1024, 1024))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["refused", "absent"])
def test_where_room_cannot_be_taken_zeros_are_written(tmp_path, small_files, monkeypatch, how):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "this disk cannot")

    if how == "refused":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    found = create_map(tmp_path / "small.npy", np.float32, (1000,))
    assert not found.any()
    assert (tmp_path / "small.npy").stat().st_blocks * 512 >= 4000
    with pytest.raises(DiskFullError):
        create_map(tmp_path / "large.npy", np.float32, (1024, 1024))
    assert [path.name for path in tmp_path.iterdir()] == ["small.npy"]


def test_another_error_is_not_a_full_disk_and_leaves_no_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        create_map(tmp_path / "map.npy", np.float32, (3,))
    assert list(tmp_path.iterdir()) == []


def test_a_stack_without_room_is_told_and_leaves_the_older_one(small_disk):
    stacks = MapStackDataset(filepath=str(small_disk))
    stacks.save({"one": np.ones((1, 16, 16))})
    with pytest.raises(DatasetError, match=r"the disk is full: 'one\.npy\.tmp' needs 3\.1 MB"):
        stacks.save({"one": np.broadcast_to(np.float32(2), (3, 512, 512))})
    assert [path.name for path in small_disk.iterdir()] == ["one.npy"]
    assert np.load(small_disk / "one.npy").min() == 1


def write_bytes(place):
    (place / "file").write_bytes(bytes(3 * _MIB))


def save_checkpoint(place):
    CheckpointFile(place / "training.checkpoint", "key").save({"weights": torch.zeros(_MIB)})


def save_weights(place):
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(_MIB)}, place / "weights.safetensors")


def save_array(place):
    np.save(place / "array.npy", np.zeros(_MIB))


def save_table(place):
    import pandas as pd

    pd.DataFrame({"text": ["x" * _MIB] * 3}).to_csv(place / "table.csv")


def save_parquet(place):
    import pandas as pd

    pd.DataFrame({"value": np.random.default_rng(0).random(_MIB)}).to_parquet(place / "table.parquet")


_WRITERS = [write_bytes, save_checkpoint, save_weights, save_array, save_table, save_parquet]


@pytest.mark.parametrize("write", _WRITERS)
def test_whatever_writes_a_full_disk_is_known(small_disk, write):
    told = pytest.raises(DiskFullError, match=r"the disk is full: '.*small.*' could not be written whole, where")
    with told, disk_full_error(small_disk):
        write(small_disk)


@pytest.mark.parametrize("write", _WRITERS)
def test_whatever_writes_too_large_a_file_is_known(tmp_path, small_files, write):
    with pytest.raises(DiskFullError), disk_full_error(tmp_path):
        write(tmp_path)


def test_a_checkpoint_without_room_leaves_the_older_one(tmp_path, small_files):
    checkpoint = CheckpointFile(tmp_path / "training.checkpoint", "key")
    checkpoint.save({"epoch": 3})
    with pytest.raises(DiskFullError, match=r"training\.checkpoint' could not be written whole"):
        checkpoint.save({"epoch": 4, "weights": torch.zeros(_MIB)})
    assert checkpoint.load()["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["training.checkpoint"]


def test_a_folder_or_text_without_room_leaves_what_was_there(tmp_path, small_files):
    replace_text(tmp_path / "page.html", "older")
    with pytest.raises(DiskFullError, match=r"page\.html' could not be written whole"):
        replace_text(tmp_path / "page.html", "x" * 2 * _MIB)
    with replacing(tmp_path / "kept") as partial:
        (partial / "file").write_text("older")
    with (
        pytest.raises(DiskFullError, match=r"kept' could not be written whole"),
        replacing(tmp_path / "kept") as partial,
    ):
        save_weights(partial)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        *("kept", "kept/file", "page.html")
    ]
    assert [(tmp_path / name).read_text() for name in ("kept/file", "page.html")] == ["older"] * 2


def test_a_full_disk_is_found_behind_other_errors():
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = full
    assert is_full(full)
    assert is_full(wrapped)
    assert is_full(RuntimeError("writing failed: No space left on device (os error 28)"))  # another process's
    assert not is_full(OSError(errno.EIO, "the disk is gone"))
    assert not is_full(None)


def test_the_program_that_would_die_with_a_bus_error_gets_a_message(small_disk):
    code = "import sys; from pathlib import Path; import numpy as np; from kdad.storage.disk_space import create_map; "
    code += "create_map(Path(sys.argv[1]), np.float32, (3, 1024, 1024))[...] = 1"
    found = subprocess.run([sys.executable, "-c", code, str(small_disk / "maps.npy")], capture_output=True, text=True)
    assert found.returncode == 1  # and not -7, a signal
    assert "DiskFullError: the disk is full: 'maps.npy' needs 12.6 MB" in found.stderr


def test_a_small_one_is_in_memory_and_a_large_one_in_a_file(monkeypatch):
    monkeypatch.setattr(disk_space, "IN_MEMORY", 24)
    small, large = zeros([3, 2], np.float32), zeros([7], np.float32)
    assert type(small) is np.ndarray and isinstance(large, np.memmap)
    assert (small.shape, large.shape) == ((3, 2), (7,))
    for found in (small, large):
        assert found.dtype == np.float32 and not found.any()
        found[1] = 5
        assert found.sum() == 5 * found[1].size


@pytest.mark.parametrize("limit", [0, 100])
def test_one_of_no_values_is_in_memory(monkeypatch, limit):
    monkeypatch.setattr(disk_space, "IN_MEMORY", limit)
    assert zeros([0, 5], bool).shape == (0, 5)


def test_its_file_is_gone_with_it(monkeypatch, tmp_path):
    monkeypatch.setattr(disk_space, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = zeros([4], bool)
    found[1:] = True
    assert isinstance(found, np.memmap) and found.tolist() == [False, True, True, True]
    del found
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_its_file_it_is_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(disk_space, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        found = zeros([3, 1 << 20], np.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert type(found) is np.ndarray and found.shape == (3, 1 << 20) and not found.any()
    assert list(tmp_path.iterdir()) == []
