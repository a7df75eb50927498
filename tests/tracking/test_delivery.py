"""What is recorded arrives in MLflow, once, whatever happens between."""

import json
import subprocess
import sys

import mlflow
import psutil
import pytest
from mlflow.exceptions import BAD_REQUEST, RESOURCE_DOES_NOT_EXIST, MlflowException

from kdad.tracking import delivery as delivering
from kdad.tracking.delivery import KEY_TAG, Delivery, close_left_runs
from kdad.tracking.destination import Destination
from kdad.tracking.run import begin_run
from kdad.tracking.spool import EXPERIMENT_ID, RUN_ID, Spool


@pytest.fixture
def begun(tmp_path, destination):
    """A run that is recorded, and nothing of it sent."""
    run, _ = begin_run(destination, tmp_path / "waiting", "a run", {"commit": "abc"}, None)
    return run


def test_everything_that_a_run_records(tmp_path, destination, begun, logged):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inside.txt").write_text("inside")
    (tmp_path / "single.txt").write_text("single")
    begun.parameters({"dataset.name": "textures", "long": "x" * 6001})
    begun.metrics({"image_auroc": 0.5})
    begun.series([("loss", 3.0, 1000, 0), ("loss", 2.0, 2000, 1)])
    begun.tags({"place": f"of {RUN_ID} in {EXPERIMENT_ID}"})
    begun.artifact(tmp_path / "folder", "folder")
    begun.artifact(tmp_path / "folder")
    begun.artifact(tmp_path / "single.txt")
    begun.text("a,b\n", "table.csv")
    begun.inputs(
        [
            {
                "context": "test",
                "dataset": {"name": "bricks", "digest": "d1", "source_type": "kdad", "source": "{}"},
            }
        ]
    )
    begun.end("FINISHED")
    (tmp_path / "single.txt").write_text("changed before it was sent")
    Delivery(destination).deliver(begun.spool)
    (run,) = logged()
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    assert run.data.params == {"dataset.name": "textures"}
    assert run.data.metrics == {"image_auroc": 0.5, "loss": 2.0}
    assert run.data.tags["commit"] == "abc"
    assert run.data.tags["place"] == f"of {run.info.run_id} in {run.info.experiment_id}"
    assert run.data.tags["long"] == "x" * 5000
    client = mlflow.MlflowClient(destination.uri)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [0, 1]
    (found,) = run.inputs.dataset_inputs
    assert (found.dataset.name, found.tags[0].value) == ("bricks", "test")
    kept = tmp_path / "mlruns" / run.info.run_id / "artifacts"
    assert (kept / "folder/inside.txt").read_text() == (kept / "inside.txt").read_text() == "inside"
    assert (kept / "single.txt").read_text() == "single"
    assert (kept / "table.csv").read_text() == "a,b\n"
    assert begun.spool.is_empty
    assert not any((begun.spool.folder / "files").iterdir())


def test_children_stand_under_their_parent(destination, begun, logged):
    child = begun.child("a case", {"axis": "layers"})
    child.metrics({"image_auroc": 0.75})
    begun.end("FAILED")
    Delivery(destination).deliver(begun.spool)
    by_name = {run.info.run_name: run for run in logged()}
    assert by_name["a case"].data.tags["mlflow.parentRunId"] == by_name["a run"].info.run_id
    assert by_name["a case"].info.status == "FAILED"  # it was open as its parent ended
    assert by_name["a case"].data.metrics == {"image_auroc": 0.75}


def test_a_broken_connection_loses_and_doubles_nothing(destination, begun, logged, monkeypatch):
    begun.metrics({"image_auroc": 0.5})
    begun.end("FINISHED")
    create = mlflow.MlflowClient.create_run

    def answers_late(self, *arguments, **named):
        create(self, *arguments, **named)
        raise MlflowException("the answer did not come")

    with monkeypatch.context() as patch:
        patch.setattr(delivering.MlflowClient, "create_run", answers_late)
        with pytest.raises(MlflowException, match="did not come"):
            Delivery(destination).deliver(begun.spool)
    Delivery(destination).deliver(begun.spool)
    (run,) = logged()
    assert run.data.metrics == {"image_auroc": 0.5}
    assert run.data.tags[KEY_TAG] == begun.key


def test_what_mlflow_refuses_does_not_hold_up_the_rest(destination, begun, logged, caplog):
    begun.parameters({"seed": 0})
    begun.parameters({"seed": 1})  # MLflow lets no parameter be changed
    begun.metrics({"image_auroc": 0.5})
    Delivery(destination).deliver(begun.spool)
    (run,) = logged()
    assert run.data.params == {"seed": "0"}
    assert run.data.metrics == {"image_auroc": 0.5}
    assert "refused" in caplog.text
    (aside,) = (begun.spool.folder / "refused").iterdir()
    assert json.loads(aside.read_text())["parameters"] == {"seed": "1"}


@pytest.fixture
def badly_answered(monkeypatch):
    """A function that lets MLflow answer the first requests for an action with an error of a code."""
    monkeypatch.setattr(delivering, "_PAUSES", (0.01, 0.01))

    def act(action, code, times):
        original, left = getattr(mlflow.MlflowClient, action), [times]

        def answer(self, *arguments, **named):
            if left[0] == 0:
                return original(self, *arguments, **named)
            left[0] -= 1
            raise MlflowException("so says the server", code)

        monkeypatch.setattr(delivering.MlflowClient, action, answer)

    return act


def test_what_a_server_took_amiss_for_a_moment_is_sent_again(destination, begun, logged, badly_answered):
    begun.inputs([{"context": "test", "dataset": {"name": "a", "digest": "d", "source_type": "kdad", "source": "{}"}}])
    badly_answered("log_inputs", BAD_REQUEST, 2)  # as of two clients that log one data set first
    Delivery(destination).deliver(begun.spool)
    (run,) = logged()
    assert len(run.inputs.dataset_inputs) == 1
    assert not (begun.spool.folder / "refused").exists()


def test_what_a_server_always_takes_amiss_does_not_hold_up_the_rest(destination, begun, logged, badly_answered):
    begun.inputs([{"context": "test", "dataset": {"name": "a", "digest": "d", "source_type": "kdad", "source": "{}"}}])
    begun.metrics({"image_auroc": 0.5})
    badly_answered("log_inputs", BAD_REQUEST, -1)
    Delivery(destination).deliver(begun.spool)
    assert logged()[0].data.metrics == {"image_auroc": 0.5}
    (aside,) = (begun.spool.folder / "refused").iterdir()
    assert "so says the server" in json.loads(aside.read_text())["refused"]


@pytest.mark.parametrize("code", [BAD_REQUEST, RESOURCE_DOES_NOT_EXIST])
def test_nothing_is_refused_while_nothing_is_written(destination, begun, logged, badly_answered, monkeypatch, code):
    begun.metrics({"image_auroc": 0.5})
    badly_answered("log_batch", code, 1)  # as of a proxy without its server, or a database that is read-only
    with monkeypatch.context() as patch:
        patch.setattr(delivering.Delivery, "_takes_others", lambda self: False)
        with pytest.raises(MlflowException, match="so says the server"):
            Delivery(destination).deliver(begun.spool)
    Delivery(destination).deliver(begun.spool)
    assert logged()[0].data.metrics == {"image_auroc": 0.5}
    assert not (begun.spool.folder / "refused").exists()


def test_whether_anything_is_written_is_asked_of_the_database(destination, begun, badly_answered):
    delivery = Delivery(destination)
    assert delivery._takes_others()
    badly_answered("set_experiment_tag", BAD_REQUEST, 1)
    assert not delivery._takes_others()


def test_a_run_that_is_made_after_it_was_given_up_is_removed(destination, begun, logged, monkeypatch):
    create, late = mlflow.MlflowClient.create_run, []

    def too_slow(self, *arguments, **named):
        late.append((arguments, named))
        raise MlflowException("no answer within the time")

    with monkeypatch.context() as patch:
        patch.setattr(delivering.MlflowClient, "create_run", too_slow)
        with pytest.raises(MlflowException, match="no answer"):
            Delivery(destination).deliver(begun.spool)
    begun.metrics({"image_auroc": 0.5})
    Delivery(destination).deliver(begun.spool)
    (arguments, named), *_ = late
    create(mlflow.MlflowClient(destination.uri), *arguments, **named)
    assert len(logged()) == 2
    begun.end("FINISHED")
    Delivery(destination).deliver(begun.spool)
    (run,) = logged()
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"image_auroc": 0.5})


def test_a_project_that_was_moved_logs_beside_its_old_place(tmp_path, destination, begun, logged, caplog):
    Delivery(destination).deliver(begun.spool)
    moved = Destination(destination.uri, "kdad", str(tmp_path / "renamed" / "mlruns"))
    run, _ = begin_run(moved, tmp_path / "waiting", "after the move", {}, None)
    run.text("here", "where.txt")
    Delivery(moved).deliver(run.spool)
    found = next(one for one in logged() if one.info.run_name == "after the move")
    assert found.info.artifact_uri.startswith(str(tmp_path / "renamed/mlruns"))
    assert "'kdad in renamed'" in caplog.text


def test_a_deleted_experiment_comes_back(destination, begun, logged):
    client = mlflow.MlflowClient(destination.uri)
    client.delete_experiment(client.create_experiment("kdad", destination.artifacts))
    Delivery(destination).deliver(begun.spool)
    assert len(logged()) == 1


def test_a_disk_that_takes_nothing_costs_no_run(begun, monkeypatch, caplog):
    def full(*_arguments, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdad.tracking.spool.replace_text", full)
    monkeypatch.setattr("pathlib.Path.open", full)
    begun.node("a node", 1.0, 0.0, 0.0, "a table")
    begun.metrics({"image_auroc": 0.5})
    begun.end("FINISHED")
    assert caplog.text.count("No space left on device") == 3


_DIES = """
import json, os, signal, sys
from pathlib import Path
from kdad.tracking.delivery import Delivery
from kdad.tracking.destination import Destination
from kdad.tracking.run import begin_run
destination = Destination(**json.loads(sys.argv[1]))
run, _ = begin_run(destination, Path(sys.argv[2]), "killed", {}, None)
run.spool.mark_begun()
Delivery(destination).deliver(run.spool)
child = run.child("its case", {})
run.metrics({"loss": 1.0})
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(destination: Destination, waiting) -> Spool:
    arguments = [sys.executable, "-c", _DIES, json.dumps(destination.plain()), str(waiting)]
    assert subprocess.run(arguments, check=False).returncode == -9
    (spool,) = Spool.find(waiting)
    return spool


def test_a_killed_run_and_its_children_are_closed_and_what_waited_is_sent(tmp_path, destination, logged):
    spool = _killed(destination, tmp_path / "waiting")
    assert [run.info.status for run in logged()] == ["RUNNING"]
    assert spool.is_orphan
    last = int(spool.last_written() * 1000)
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 1
    found = {run.info.run_name: run for run in logged()}
    assert {name: run.info.status for name, run in found.items()} == {"killed": "KILLED", "its case": "KILLED"}
    assert found["killed"].info.end_time == last
    assert found["killed"].data.metrics == {"loss": 1.0}
    assert not spool.folder.exists()
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0


def test_a_living_run_is_left_alone(tmp_path, destination, logged):
    run, _ = begin_run(destination, tmp_path / "waiting", "alive", {}, None)
    run.spool.mark_begun()
    assert not run.spool.is_orphan
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0
    assert run.spool.folder.exists()
    assert logged() == []


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "long ago", {}, None)
    head = run.spool.folder / "head.json"
    facts = json.loads(head.read_text())
    assert facts["owner"]["began"] == psutil.Process().create_time()
    facts["owner"]["began"] -= 100
    head.write_text(json.dumps(facts))
    assert run.spool.is_orphan
    facts["owner"]["host"] = "another"
    head.write_text(json.dumps(facts))
    assert not run.spool.is_orphan  # what cannot be seen from here is thought to live


def test_what_goes_elsewhere_stays(tmp_path, destination):
    elsewhere = Destination(destination.uri, "another experiment", destination.artifacts)
    spool = _killed(elsewhere, tmp_path / "waiting")
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0
    assert spool.folder.exists()


@pytest.mark.long
@pytest.mark.parametrize("begun", [True, False])
def test_the_command_that_sends_what_waits(tmp_path, destination, logged, begun):
    spool = _killed(destination, tmp_path / "waiting")
    if not begun:
        (spool.folder / "begun").unlink()
    command = [sys.executable, "-m", "kdad.tracking", str(tmp_path / "waiting")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert destination.uri in said
    assert logged()[0].info.status == ("KILLED" if begun else "RUNNING")
    assert not spool.folder.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nothing waits" in again
