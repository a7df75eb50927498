"""Cases on a real cluster of worker processes, with small tasks in the place of trainings."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import distributed
import pytest

from kdad.errors import ClusterError, InputError
from kdad.experiments import workers
from kdad.experiments.case import Case, case_listeners, failed_case
from kdad.experiments.workers import Cluster, Site, check_scheduler, open_cluster, run_tasks
from kdad.parameters.blocks import WorkersParameters

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it

_ANY = "127.0.0.1:0"
_PLAIN = {"axis": "size", "category": "waves", "seed": 0, "system": "mkd", "settings": None, "overrides": {}}


def case(name: str) -> Case:
    return Case(variant=name, **_PLAIN)


def name_of(variant: str) -> str:
    return f"size.{variant}.waves_seed_0"


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
def cluster(scheduler):
    with open_cluster(WorkersParameters(address=scheduler.scheduler_address), 9) as opened:
        yield opened


class Heard:
    """Notes what it is told of cases."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def case_begins(self, case):
        self.told.append(("begins", case.variant))

    def case_ends(self, case, result):
        self.told.append(("ends", case.variant))


@pytest.fixture
def heard():
    listener = Heard()
    case_listeners.append(listener)
    yield listener
    case_listeners.remove(listener)


def where(variant: str, site: Site):
    """A result that says in which process and folder it was made."""
    return failed_case(case(variant), f"{os.getpid()} {Path.cwd()}")


def run(cluster: Cluster, **tasks):
    """Run tasks by their cases' variants."""
    made = run_tasks([(case(name), task) for name, task in tasks.items()], cluster, 60)
    return {name: made[name_of(name)] for name in tasks}


def test_cases_run_on_workers_in_the_runs_folder_and_are_told_here(cluster, heard, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("a", "b", "c")
    made = run(cluster, **{name: partial(where, name) for name in names})
    processes, folders = zip(*(made[name].error.split() for name in names), strict=True)
    assert str(os.getpid()) not in processes and set(folders) == {str(tmp_path)}
    assert sorted(heard.told) == sorted((what, name) for what in ("begins", "ends") for name in names)
    assert heard.told[:2] == [("begins", "a"), ("begins", "b")]  # as many as there are workers


def refuse(site: Site):
    raise InputError("image 7 is empty")


def test_an_error_arrives_as_what_it_was(cluster):
    with pytest.raises(InputError, match="image 7 is empty"):
        run(cluster, a=refuse)


def die_until(there: str, variant: str, site: Site):
    if not Path(there).exists():
        Path(there).touch()
        time.sleep(1)  # until it is known here that it has begun
        os.kill(os.getpid(), signal.SIGKILL)
    return failed_case(case(variant), "done")


def test_a_killed_workers_case_begins_again_and_is_told_once(cluster, heard, tmp_path, caplog):
    made = run(cluster, a=partial(die_until, str(tmp_path / "died"), "a"))
    assert made["a"].error == "done"
    assert heard.told == [("begins", "a"), ("ends", "a")]
    assert "size.a.waves_seed_0 begins again, as its worker was lost" in caplog.text


def die(site: Site):
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_case_that_kills_its_workers_is_given_up_and_the_others_go_on(cluster, heard):
    made = run(cluster, deadly=die, other=partial(where, "other"))
    assert made["deadly"].error.startswith("lost: 4 workers or more were lost at it, the last one tcp://")
    assert made["other"].error.split()[0] != str(os.getpid())
    assert sorted(heard.told) == sorted((what, name) for what in ("begins", "ends") for name in ("deadly", "other"))


@pytest.mark.long
def test_cases_that_only_wait_are_not_blamed_for_lost_workers(cluster, tmp_path):
    tasks = {f"dies_{number}": partial(die_until, str(tmp_path / f"{number}"), f"dies_{number}") for number in range(3)}
    tasks |= {f"waits_{number}": partial(where, f"waits_{number}") for number in range(3)}
    # Each of three workers that die would count against all that were sent to it; two are one too many here.
    made = run(cluster, **tasks)
    assert [made[name].error for name in tasks][:3] == ["done"] * 3


def sleep(file: str, site: Site):
    Path(file).write_text(str(os.getpid()))
    time.sleep(120)


def test_a_cluster_without_workers_ends_the_run():
    with distributed.LocalCluster(n_workers=0, dashboard_address=_ANY, silence_logs=50) as empty:
        address = WorkersParameters(address=empty.scheduler_address)
        refused = pytest.raises(ClusterError, match=r"no worker for 1 s \(workers\.patience_seconds\)")
        with refused, open_cluster(address, 9) as opened:
            run_tasks([(case("a"), partial(where, "a"))], opened, 1.0)


@pytest.mark.long
def test_a_scheduler_that_is_gone_ends_the_run(tmp_path, monkeypatch):
    local = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=_ANY, silence_logs=50)
    file, look = tmp_path / "sleeper", workers._Health.look

    def close_then_look(health):
        if file.exists():
            local.close()
        look(health)

    monkeypatch.setattr(workers._Health, "look", close_then_look)
    address = WorkersParameters(address=local.scheduler_address)
    with pytest.raises(ClusterError, match="The same command again"), open_cluster(address, 9) as opened:
        run_tasks([(case("a"), partial(sleep, str(file)))], opened, 3.0)


def test_an_address_without_a_scheduler_is_one_message():
    absent = WorkersParameters(address="tcp://127.0.0.1:9", connect_seconds=1)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'.*dask scheduler"):
        check_scheduler(absent)
    check_scheduler(WorkersParameters(count=2))


@pytest.mark.parametrize(
    ("folder", "code", "message"),
    [
        ("/no/such/folder", None, "no folder '/no/such/folder'.*the same path"),
        pytest.param(None, "older", "other code of kdad", marks=pytest.mark.long),
    ],
)
def test_a_worker_that_cannot_make_the_same_numbers_refuses(cluster, tmp_path, monkeypatch, folder, code, message):
    here = Site.here()
    other = Site(folder or str(tmp_path), code or here.code, here.run)
    monkeypatch.setattr(Site, "here", lambda: other)
    with pytest.raises(InputError, match=message):
        run(cluster, a=partial(where, "a"))


# The last on this cluster, whose workers it ends.
@pytest.mark.long
def test_after_an_interruption_no_worker_goes_on(scheduler, tmp_path, monkeypatch):
    file = tmp_path / "sleeper"
    look = workers._Health.look

    def interrupted(health):
        if file.exists() and file.read_text():
            raise KeyboardInterrupt
        look(health)

    monkeypatch.setattr(workers._Health, "look", interrupted)
    address = WorkersParameters(address=scheduler.scheduler_address)
    with pytest.raises(KeyboardInterrupt), open_cluster(address, 9) as opened:
        run(opened, a=partial(sleep, str(file)))
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_workers_of_this_machine_share_the_cores(monkeypatch):
    began = {}

    class Local:
        def __init__(self, **options):
            import dask

            began.update(options, environment=dask.config.get("distributed.nanny.pre-spawn-environ"))

    monkeypatch.setattr(distributed, "LocalCluster", Local)
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    for given, share in [((8, None), 1), ((2, 3), 3), ((3, None), 2), ((99, None), 1)]:
        workers._start(*given)
        assert (began["n_workers"], int(began["environment"]["OMP_NUM_THREADS"])) == (given[0], share)
        assert began["env"] == began["environment"] and "MALLOC_TRIM_THRESHOLD_" not in began["env"]
        assert began["threads_per_worker"] == 1


def test_no_more_workers_begin_than_there_are_cases_and_they_end_with_them(monkeypatch):
    said = []
    local = SimpleNamespace(close=lambda timeout: said.append("closed"))
    monkeypatch.setattr(workers, "_start", lambda count, threads: said.append((count, threads)) or local)
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: SimpleNamespace(close=lambda timeout: None))
    with pytest.raises(KeyboardInterrupt), open_cluster(WorkersParameters(count=4, threads=2), 3):
        raise KeyboardInterrupt
    assert said == [(3, 2), "closed"]


def test_a_cluster_that_is_slow_to_close_costs_no_results(monkeypatch, caplog):
    closed = []

    def close(timeout):
        closed.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(workers, "_start", lambda count, threads: SimpleNamespace(close=close))
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: SimpleNamespace(close=close))
    with caplog.at_level("WARNING"), open_cluster(WorkersParameters(count=2), 2):
        pass
    assert closed == [5.0, 5.0]  # the client, and its workers nevertheless
    assert caplog.text.count("did not close within 5 s") == 2


def test_workers_that_cannot_be_started_are_one_message(monkeypatch):
    def fail(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with pytest.raises(ClusterError, match=r"2 workers could not be started.*\(Nanny failed to start\.\)"):
        workers._start(2, 1)


@pytest.mark.parametrize(
    ("given", "here"), [({}, True), ({"count": 1}, True), ({"count": 2}, False), ({"address": "tcp://a:1"}, False)]
)
def test_without_workers_cases_run_in_this_process(given, here):
    assert WorkersParameters(**given).is_this_process is here
