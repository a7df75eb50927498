import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.session import KedroSession

import kdad.detectors.mkd.cloner
import kdad.training.loop
from kdad.errors import InputError
from kdad.hooks.run_tracking import command_of
from projects import FEW, copy_project, logged_runs, run_pipeline


def _with_few_images(project: Path) -> Path:
    parameters = project / "conf/test/parameters.yml"
    parameters.write_text(parameters.read_text().replace("dataset:\n", f"dataset:\n  textures: {json.dumps(FEW)}\n", 1))
    return project


@pytest.fixture
def project(project) -> Path:
    """The test's own project, with few images."""
    return _with_few_images(project)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory, migrated_database) -> Path:
    """A project whose images were ingested, by one run."""
    made = _with_few_images(copy_project(tmp_path_factory.mktemp("ingested"), migrated_database))
    run_pipeline(made, "test", pipeline="ingestion")
    return made


def runs(project) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("kdad").experiment_id])


def test_a_failing_node_leaves_a_failed_run_with_the_error_and_the_next_session_its_own(project, monkeypatch):
    def fail(*_):
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr("kdad.detectors.mkd.cloner.train", fail)
        with pytest.raises(RuntimeError, match="on fire"):
            run_pipeline(project, "test")
    assert mlflow.active_run() is None
    (failed,) = runs(project)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "RuntimeError: the disk is on fire"
    assert kdad.detectors.mkd.cloner.train is not fail

    run_pipeline(project, "test", pipeline="ingestion")
    assert sorted(run.info.status for run in runs(project)) == ["FAILED", "FINISHED"]
    finished = next(run for run in runs(project) if run.info.status == "FINISHED")
    (table,) = project.glob(f"mlruns/{finished.info.run_id}/artifacts/nodes.csv")
    assert set(pd.read_csv(table)["node"]) >= {"split_images"}
    assert "mkd_fit_detector" not in table.read_text()


def test_unusable_input_is_one_message_before_training(project, capsys):
    (project / "empty").mkdir()
    root = str(project / "empty")
    with pytest.raises(KedroCliError) as caught:
        run_pipeline(project, "folder", runtime_params={"dataset": {"root": root}})
    assert root in str(caught.value)
    assert not list(project.rglob("*.safetensors"))
    assert not list((project / "mlruns/waiting").iterdir())
    assert logged_runs(project) == []


def test_unusable_input_is_told_without_waiting_for_mlflow_and_the_next_run_logs_it(project, monkeypatch):
    def fail(*_):
        raise InputError("the weights are torn")

    def wait(*_):
        raise AssertionError("MLflow was waited for")

    with monkeypatch.context() as patch:
        patch.setattr("kdad.detectors.mkd.cloner.train", fail)
        patch.setattr("kdad.tracking.uploader.Uploader.finish", wait)
        with pytest.raises(KedroCliError, match="the weights are torn"):
            run_pipeline(project, "test")
    run_pipeline(project, "test", pipeline="ingestion")
    assert sorted(run.info.status for run in runs(project)) == ["FAILED", "FINISHED"]
    assert not list((project / "mlruns/waiting").iterdir())


def test_losses_are_recorded_while_a_network_trains(project, monkeypatch):
    epoch = kdad.training.loop._train_epoch

    def fail_in_the_third(task, parameters, seed, number, *more):
        if number == 2:
            raise RuntimeError("the disk is on fire")
        return epoch(task, parameters, seed, number, *more)

    monkeypatch.setattr("kdad.training.loop._train_epoch", fail_in_the_third)
    with pytest.raises(RuntimeError, match="on fire"):
        run_pipeline(project, "test", runtime_params={"cloner": {"training": {"epochs": 3}}})
    (failed,) = runs(project)
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    history = client.get_metric_history(failed.info.run_id, "cloner.validation.total")
    assert [point.step for point in history] == [0, 1]


def test_a_run_ends_with_a_table_and_the_places_of_its_results(project, capsys):
    run_pipeline(project, "test", runtime_params={"scoring": {"localisation": ["discrepancy"]}})
    printed = capsys.readouterr().out
    assert "textures / brick" in printed
    assert "heatmaps.png" in printed
    assert runs(project)[0].info.run_id in printed.replace("\n", "")


@pytest.mark.long
def test_metrics_without_masks_are_null_with_a_reason(project):
    run_pipeline(
        project,
        "digits",
        runtime_params={
            "source": {"name": "timm:test_resnet", "weights": "random"},
            "cloner": {"training": {"epochs": 1}},
            "dataset": {"normal_class": 3},
        },
    )
    metrics = json.loads((project / "data/08_reporting/digits/class_3/mkd/metrics.json").read_text())
    assert metrics["pixel_auroc"] is None
    assert "no masks" in metrics["localisation_left_out"]
    assert 0 <= metrics["image_auroc"] <= 1


@pytest.mark.faults
def test_an_interrupted_run_is_killed_and_the_next_session_its_own(project, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdad.detectors.mkd.cloner.train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(project, "test")
    run_pipeline(project, "test", pipeline="ingestion")
    assert {run.info.run_name.split()[0]: run.info.status for run in runs(project)} == {
        "mkd": "KILLED",
        "ingestion": "FINISHED",
    }
    assert not list((project / "mlruns/waiting").iterdir())


def test_nothing_to_do_leaves_no_run(ingested):
    run_pipeline(ingested, "test", pipeline="ingestion", only_missing_outputs=True)
    assert len(runs(ingested)) == 1


def test_a_run_below_an_open_run_of_a_notebook_is_its_child(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # which MLflow sets, and is as before after the test
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    with mlflow.start_run(run_name="my notebook") as mine:
        run_pipeline(project, "test", pipeline="ingestion")
        assert mlflow.active_run().info.run_id == mine.info.run_id
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    assert client.get_run(mine.info.run_id).info.run_name == "my notebook"
    (made,) = runs(project)
    assert made.data.tags["mlflow.parentRunId"] == mine.info.run_id


def test_the_images_of_a_run_are_its_data_sets(ingested):
    (run,) = runs(ingested)
    found = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert set(found) == {"training", "validation", "test"}
    assert {one.name for one in found.values()} == {"textures/brick"}
    assert len({one.digest for one in found.values()}) == 3
    parts = pd.read_csv(ingested / "data/03_primary/textures/brick/split.csv")["split"].value_counts()
    assert json.loads(found["training"].profile)["images"] == parts["train"]
    assert json.loads(found["test"].profile)["images"] == parts["test"]


def test_a_run_that_must_be_logged_does_not_begin_without_mlflow(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(KedroCliError, match=r"127\.0\.0\.1:9 does not answer.*when_unreachable"):
        run_pipeline(project, "test", runtime_params={"tracking": {"when_unreachable": "stop"}})
    assert not (project / "data/03_primary").exists()


def test_a_server_that_is_down_costs_nothing(project, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run_pipeline(project, "test", pipeline="ingestion", runtime_params={"tracking": {"patience": 1.0}})
    assert (project / "data/03_primary/textures/brick/split.csv").exists()
    (waiting,) = (project / "mlruns/waiting").glob("*/run.json")
    assert str(waiting.parent) in caplog.text


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/bin/kedro", "run", "--env=test", "--params=seed=1"], "kedro run --env=test --params=seed=1"),
        (
            ["pytest"],
            "kedro run --pipelines=mkd_ablation --env=test --tags=fusion --params=dataset.category=grass,seed=1",
        ),
    ],
)
def test_the_command_can_be_given_again(arguments, command):
    given = {
        "pipeline_names": ["mkd_ablation"],
        "env": "test",
        "tags": ["fusion"],
        "runtime_params": {"dataset": {"category": "grass"}, "seed": 1},
    }
    assert command_of(given, arguments) == command


def test_a_configuration_elsewhere_leaves_the_database_in_the_project(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "conf"
    (project / "conf").rename(elsewhere)
    with KedroSession.create(project_path=project, env="test", conf_source=str(elsewhere)) as session:
        session.run(pipeline_names=["ingestion"])
    assert len(runs(project)) == 1
    assert not (elsewhere.parent / "mlflow.db").exists()
