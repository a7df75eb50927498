"""The executor on a real cluster of worker processes, with small nodes."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import distributed
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node
from kedro.runner.task import Task
from kedro_datasets.json import JSONDataset

from kdad.errors import InputError
from kdad.pipelines.comparison.cases import WORKER
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.runner import cluster
from kdad.runner.executor import ClusterExecutor
from kdad.runner.work import Site, code_of_work

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it

_ANY = "127.0.0.1:0"


@pytest.fixture(scope="module")
def scheduler():
    """Two workers that Dask replaces when they are killed, giving up what the second had that is lost."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=_ANY, silence_logs=50) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 1))
        yield local


@pytest.fixture
def executor(scheduler, tmp_path):
    made = ClusterExecutor(cluster.connect(scheduler.scheduler_address, 30), Site(str(tmp_path), code_of_work()), 60)
    with made:
        yield made


class Hooks:
    """Notes what hooks are told, and in which thread."""

    def __init__(self) -> None:
        self.told, self.threads = [], set()
        self.hook = self

    def __getattr__(self, name):
        def note(**found):
            self.told.append(
                (name, found["node"].name, found.get("outputs") or found.get("data") or found.get("error"))
            )
            self.threads.add(threading.current_thread().name)
            return []

        return note


def task(node, hooks, **datasets):
    return Task(node=node, catalog=DataCatalog(datasets), is_async=False, hook_manager=hooks)


def outcome(executor, *tasks):
    futures = [executor.submit(each) for each in tasks]
    _, open_ones = wait(futures, timeout=300)
    assert not open_ones
    return [future.exception() or future.result().name for future in futures]


def where(number):
    return {"number": number, "process": os.getpid()}


def test_a_case_runs_on_a_worker_and_its_hooks_here(executor, tmp_path):
    hooks, kept = Hooks(), JSONDataset(filepath=str(tmp_path / "made.json"))
    node = Node(where, "a", "made", name="case", tags=WORKER)
    assert outcome(executor, task(node, hooks, a=MemoryDataset(7), made=kept)) == ["case"]
    made = kept.load()
    assert made["number"] == 7 and made["process"] != os.getpid()
    names = ["before_node_run", "after_node_run", "after_dataset_saved"]
    assert [(name, of) for name, of, _ in hooks.told] == [(name, "case") for name in names]
    assert hooks.told[1][2] == {"made": made} and hooks.told[2][2] == made
    assert len(hooks.threads) == 1


def test_what_lies_in_no_file_is_sent_both_ways(executor):
    made = MemoryDataset()
    node = Node(where, "a", "made", name="case", tags=WORKER)
    outcome(executor, task(node, Hooks(), a=MemoryDataset(7), made=made))
    assert made.load()["number"] == 7


def test_what_sums_up_runs_here(executor):
    made = MemoryDataset()
    sums_up = Node(where, "a", "made", name="sum")
    outcome(executor, task(sums_up, Hooks(), a=MemoryDataset(7), made=made))
    assert made.load() == {"number": 7, "process": os.getpid()}


def fail(number):
    raise InputError(f"image {number} is empty")


def test_an_error_arrives_as_what_it_was(executor):
    hooks, node = Hooks(), Node(fail, "a", "made", name="case", tags=WORKER)
    (error,) = outcome(executor, task(node, hooks, a=MemoryDataset(7), made=MemoryDataset()))
    assert isinstance(error, InputError) and str(error) == "image 7 is empty"
    assert [name for name, *_ in hooks.told] == ["before_node_run", "on_node_error"]


def die_until(there, number):
    if not Path(there).exists():
        Path(there).touch()
        time.sleep(1)  # until it is known here that it has begun
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_workers_case_begins_again_and_is_told_once(executor, tmp_path, caplog):
    hooks, made = Hooks(), MemoryDataset()
    node = Node(partial(die_until, str(tmp_path / "died")), "a", "made", name="case", tags=WORKER)
    assert outcome(executor, task(node, hooks, a=MemoryDataset(7), made=made)) == ["case"]
    assert made.load() == 7
    assert [name for name, *_ in hooks.told] == ["before_node_run", "after_node_run", "after_dataset_saved"]
    assert "case begins again, as its worker was lost" in caplog.text


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_case_that_kills_its_workers_is_given_up_and_the_others_go_on(executor):
    run = partial(die)
    run.give_up = "not made: {}".format
    made, other = MemoryDataset(), MemoryDataset()
    tasks = [
        task(Node(run, "a", "made", name="deadly", tags=WORKER), Hooks(), a=MemoryDataset(7), made=made),
        task(Node(where, "a", "made", name="case", tags=WORKER), Hooks(), a=MemoryDataset(8), made=other),
    ]
    assert outcome(executor, *tasks) == ["deadly", "case"]
    assert made.load().startswith("not made: lost: 4 workers or more were lost at it") and other.load()["number"] == 8


@pytest.mark.long
def test_cases_that_only_wait_are_not_blamed_for_lost_workers(executor, tmp_path):
    made = [MemoryDataset() for _ in range(6)]
    runs = [partial(die_until, str(tmp_path / f"died_{number}")) for number in range(3)]
    tasks = [
        task(Node(run, "a", "made", name=f"case_{number}", tags=WORKER), Hooks(), a=MemoryDataset(number), made=one)
        for number, (run, one) in enumerate(zip([*runs, where, where, where], made, strict=True))
    ]
    # Each of three workers that die would count against all that were sent to it; two are one too many here.
    assert outcome(executor, *tasks) == [f"case_{number}" for number in range(6)]
    assert [one.load() for one in made[:3]] == [0, 1, 2]


@pytest.mark.long
def test_a_node_that_cannot_be_given_up_ends_the_run(executor):
    node = Node(die, "a", "made", name="features", tags=WORKER)
    (error,) = outcome(executor, task(node, Hooks(), a=MemoryDataset(7), made=MemoryDataset()))
    assert isinstance(error, CommandLineError) and error.exit_code == ExitCode.NO_CLUSTER
    assert "features failed: 4 workers or more were lost at it" in str(error)


def sleep(file, number):
    Path(file).write_text(str(os.getpid()))
    time.sleep(120)


def test_after_an_interruption_no_worker_goes_on(scheduler, tmp_path):
    file = tmp_path / "sleeper"
    node = Node(partial(sleep, str(file)), "a", "made", name="case", tags=WORKER)
    site = Site(str(tmp_path), code_of_work())
    with (
        pytest.raises(KeyboardInterrupt),
        ClusterExecutor(cluster.connect(scheduler.scheduler_address, 30), site, 60) as executor,
    ):
        executor.submit(task(node, Hooks(), a=MemoryDataset(7), made=MemoryDataset()))
        until = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_a_cluster_without_workers_ends_the_run(tmp_path):
    with distributed.LocalCluster(n_workers=0, dashboard_address=_ANY, silence_logs=50) as empty:
        found = cluster.connect(empty.scheduler_address, 30)
        with ClusterExecutor(found, Site(str(tmp_path), code_of_work()), 1.0) as executor:
            node = Node(where, "a", "made", name="case", tags=WORKER)
            (error,) = outcome(executor, task(node, Hooks(), a=MemoryDataset(7), made=MemoryDataset()))
    assert isinstance(error, CommandLineError) and "no worker for 1 s (patience_seconds)" in str(error)


def test_a_scheduler_that_is_gone_ends_the_run(tmp_path):
    local = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=_ANY, silence_logs=50)
    found = cluster.connect(local.scheduler_address, 30)
    with ClusterExecutor(found, Site(str(tmp_path), code_of_work()), 3.0) as executor:
        node = Node(partial(sleep, str(tmp_path / "sleeper")), "a", "made", name="case", tags=WORKER)
        future = executor.submit(task(node, Hooks(), a=MemoryDataset(7), made=MemoryDataset()))
        local.close()
        error = future.exception(timeout=60)
    assert isinstance(error, CommandLineError) and error.exit_code == ExitCode.NO_CLUSTER
    assert "The same command again" in str(error)


def test_an_address_without_a_scheduler_is_one_message():
    with pytest.raises(CommandLineError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'.*dask scheduler"):
        cluster.connect("tcp://127.0.0.1:9", 1)


def test_workers_of_its_own_share_the_cores(monkeypatch):
    began = {}

    class Cluster:
        def __init__(self, **options):
            import dask

            began.update(options, environment=dask.config.get("distributed.nanny.pre-spawn-environ"))

    monkeypatch.setattr(distributed, "LocalCluster", Cluster)
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for given, expected in [
        ((None, None, 99), (8, 1)),
        ((None, 4, 99), (2, 4)),
        ((3, None, 99), (3, 2)),
        ((None, None, 2), (2, 4)),
    ]:
        cluster.start_workers(*given)
        assert (began["n_workers"], int(began["environment"]["OMP_NUM_THREADS"])) == expected
        assert began["env"] == began["environment"] and "MALLOC_TRIM_THRESHOLD_" not in began["env"]
        assert began["threads_per_worker"] == 1


def test_workers_that_cannot_be_started_are_one_message(monkeypatch):
    def fail(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with pytest.raises(
        CommandLineError, match=r"2 workers could not be started.*\(Nanny failed to start\.\)"
    ) as caught:
        cluster.start_workers(2, 1, 9)
    assert caught.value.exit_code == ExitCode.NO_CLUSTER
