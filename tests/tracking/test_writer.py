"""What is recorded arrives in MLflow, once, whatever happens between."""

import json

import mlflow
import pytest
from mlflow.exceptions import BAD_REQUEST, RESOURCE_DOES_NOT_EXIST, MlflowException

from kdad.tracking import writer as writing
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, Destination
from kdad.tracking.fetching import KEY_TAG
from kdad.tracking.uploader import begin_run
from kdad.tracking.writer import MlflowWriter


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
    MlflowWriter(destination).write(begun)
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
    assert not [path for path in (begun.path / "sending").rglob("*") if path.is_file()]


def test_children_stand_under_their_parent(destination, begun, logged):
    child = begun.child("a case", {"axis": "layers"})
    child.metrics({"image_auroc": 0.75})
    begun.end("FAILED")
    MlflowWriter(destination).write(begun)
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
        patch.setattr(writing.MlflowClient, "create_run", answers_late)
        with pytest.raises(MlflowException, match="did not come"):
            MlflowWriter(destination).write(begun)
    MlflowWriter(destination).write(begun)
    (run,) = logged()
    assert run.data.metrics == {"image_auroc": 0.5}
    assert run.data.tags[KEY_TAG] == begun.key


def test_what_mlflow_refuses_does_not_hold_up_the_rest(destination, begun, logged, caplog):
    begun.parameters({"seed": 0, "source": "a"})
    begun.parameters({"seed": 1})  # MLflow lets no parameter be changed
    begun.metrics({"image_auroc": 0.5})
    MlflowWriter(destination).write(begun)
    (run,) = logged()
    assert run.data.params == {"seed": "0", "source": "a"}
    assert run.data.metrics == {"image_auroc": 0.5}
    assert "refused" in caplog.text
    (refused,) = [json.loads(line) for line in _refused(begun)]
    assert refused["params"] == [["seed", "1"]]


def _refused(run) -> list[str]:
    return (run.path / "refused" / run.key / "refused.jsonl").read_text().split("\n")[1:-1]


def test_a_file_that_mlflow_refuses_is_kept(tmp_path, destination, begun, monkeypatch):
    def refuse(*_):
        raise MlflowException("no such name", RESOURCE_DOES_NOT_EXIST)

    begun.text("a,b\n", "table.csv")
    with monkeypatch.context() as patch:
        patch.setattr(writing.MlflowClient, "log_artifact", refuse)
        MlflowWriter(destination).write(begun)
    assert json.loads(_refused(begun)[0])["artifacts"] == ["sending/table.csv"]
    begun.end("FINISHED")
    MlflowWriter(destination).write(begun)
    begun.remove()
    assert (begun.path / "refused" / begun.key / "sending/table.csv").read_text() == "a,b\n"


def test_a_child_that_mlflow_has_leaves_no_folder(destination, begun, logged):
    child = begun.child("a case", {})
    MlflowWriter(destination).write(begun)
    assert child.path.exists()
    child.end("FINISHED")
    MlflowWriter(destination).write(begun)
    assert not child.path.exists()
    assert sorted(run.info.status for run in logged()) == ["FINISHED", "RUNNING"]


@pytest.fixture
def badly_answered(monkeypatch):
    """A function that lets MLflow answer the first requests for an action with an error of a code."""
    monkeypatch.setattr(writing, "_PAUSES", (0.01, 0.01))

    def act(action, code, times):
        original, left = getattr(mlflow.MlflowClient, action), [times]

        def answer(self, *arguments, **named):
            if left[0] == 0:
                return original(self, *arguments, **named)
            left[0] -= 1
            raise MlflowException("so says the server", code)

        monkeypatch.setattr(writing.MlflowClient, action, answer)

    return act


def test_what_a_server_took_amiss_for_a_moment_is_sent_again(destination, begun, logged, badly_answered):
    begun.inputs([{"context": "test", "dataset": {"name": "a", "digest": "d", "source_type": "kdad", "source": "{}"}}])
    badly_answered("log_inputs", BAD_REQUEST, 2)  # as of two clients that log one data set first
    MlflowWriter(destination).write(begun)
    (run,) = logged()
    assert len(run.inputs.dataset_inputs) == 1
    assert not (begun.path / "refused").exists()


def test_what_a_server_always_takes_amiss_does_not_hold_up_the_rest(destination, begun, logged, badly_answered):
    begun.inputs([{"context": "test", "dataset": {"name": "a", "digest": "d", "source_type": "kdad", "source": "{}"}}])
    begun.metrics({"image_auroc": 0.5})
    badly_answered("log_inputs", BAD_REQUEST, -1)
    MlflowWriter(destination).write(begun)
    assert logged()[0].data.metrics == {"image_auroc": 0.5}
    assert all("so says the server" in line for line in _refused(begun))


@pytest.mark.parametrize("code", [BAD_REQUEST, RESOURCE_DOES_NOT_EXIST])
def test_nothing_is_refused_while_nothing_is_written(destination, begun, logged, badly_answered, monkeypatch, code):
    begun.metrics({"image_auroc": 0.5})
    badly_answered("log_batch", code, 1)  # as of a proxy without its server, or a database that is read-only
    with monkeypatch.context() as patch:
        patch.setattr(writing.MlflowWriter, "_takes_others", lambda self: False)
        with pytest.raises(MlflowException, match="so says the server"):
            MlflowWriter(destination).write(begun)
    MlflowWriter(destination).write(begun)
    assert logged()[0].data.metrics == {"image_auroc": 0.5}
    assert not (begun.path / "refused").exists()


def test_whether_anything_is_written_is_asked_of_the_database(destination, begun, badly_answered):
    delivery = MlflowWriter(destination)
    assert delivery._takes_others()
    badly_answered("set_experiment_tag", BAD_REQUEST, 1)
    assert not delivery._takes_others()


def test_a_run_that_is_made_after_it_was_given_up_is_removed(destination, begun, logged, monkeypatch):
    create, late = mlflow.MlflowClient.create_run, []

    def too_slow(self, *arguments, **named):
        late.append((arguments, named))
        raise MlflowException("no answer within the time")

    with monkeypatch.context() as patch:
        patch.setattr(writing.MlflowClient, "create_run", too_slow)
        with pytest.raises(MlflowException, match="no answer"):
            MlflowWriter(destination).write(begun)
    begun.metrics({"image_auroc": 0.5})
    MlflowWriter(destination).write(begun)
    (arguments, named), *_ = late
    create(mlflow.MlflowClient(destination.uri), *arguments, **named)
    assert len(logged()) == 2
    begun.end("FINISHED")
    MlflowWriter(destination).write(begun)
    (run,) = logged()
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"image_auroc": 0.5})


def test_a_project_that_was_moved_logs_beside_its_old_place(tmp_path, destination, begun, logged, caplog):
    MlflowWriter(destination).write(begun)
    moved = Destination(destination.uri, "kdad", str(tmp_path / "renamed" / "mlruns"))
    run, _ = begin_run(moved, tmp_path / "waiting", "after the move", {}, None)
    run.text("here", "where.txt")
    MlflowWriter(moved).write(run)
    found = next(one for one in logged() if one.info.run_name == "after the move")
    assert found.info.artifact_uri.startswith(str(tmp_path / "renamed/mlruns"))
    assert "'kdad in renamed'" in caplog.text


def test_a_deleted_experiment_comes_back(destination, begun, logged):
    client = mlflow.MlflowClient(destination.uri)
    client.delete_experiment(client.create_experiment("kdad", destination.artifacts))
    MlflowWriter(destination).write(begun)
    assert len(logged()) == 1


def test_a_disk_that_takes_nothing_costs_no_run(begun, monkeypatch, caplog):
    def full(*_arguments, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdad.tracking.run.replace_text", full)
    monkeypatch.setattr("pathlib.Path.open", full)
    begun.node("a node", 1.0, 0.0, 0.0, "a table")
    begun.metrics({"image_auroc": 0.5})
    begun.end("FINISHED")
    assert caplog.text.count("No space left on device") == 1
