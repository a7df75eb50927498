import json

import mlflow
import pytest
from kedro.framework.cli.utils import KedroCliError

import kdad.detectors.mkd.training
from projects import run_pipeline


def runs(project) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return client.search_runs([client.get_experiment_by_name("kdad").experiment_id])


def test_a_failing_node_leaves_a_failed_run_with_the_error_and_the_next_session_its_own(project, monkeypatch):
    def fail(*_):
        raise RuntimeError("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr("kdad.detectors.mkd.training.train", fail)
        with pytest.raises(RuntimeError, match="on fire"):
            run_pipeline(project, "test")
    assert mlflow.active_run() is None
    (failed,) = runs(project)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "RuntimeError: the disk is on fire"
    assert kdad.detectors.mkd.training.train is not fail

    run_pipeline(project, "test", pipeline="ingestion")
    assert sorted(run.info.status for run in runs(project)) == ["FAILED", "FINISHED"]
    finished = next(run for run in runs(project) if run.info.status == "FINISHED")
    assert "seconds.mkd_fit_detector" not in finished.data.metrics
    assert "seconds.split_images" in finished.data.metrics


def test_unusable_input_is_one_message_before_training(project, capsys):
    (project / "empty").mkdir()
    root = str(project / "empty")
    with pytest.raises(KedroCliError) as caught:
        run_pipeline(project, "folder", runtime_params={"dataset": {"root": root}})
    assert root in str(caught.value)
    (failed,) = runs(project)
    assert failed.info.status == "FAILED"
    assert not list(project.rglob("*.safetensors"))


def test_a_run_ends_with_a_table_and_the_places_of_its_results(project, capsys):
    run_pipeline(project, "test", runtime_params={"scoring": {"localisation": ["discrepancy"]}})
    printed = capsys.readouterr().out
    assert "textures / brick" in printed
    assert "heatmaps.png" in printed
    assert runs(project)[0].info.run_id in printed.replace("\n", "")


def test_metrics_without_masks_are_null_with_a_reason(project):
    run_pipeline(
        project,
        "digits",
        runtime_params={"cloner": {"training": {"epochs": 1}}, "dataset": {"normal_class": 3}},
    )
    metrics = json.loads((project / "data/08_reporting/digits/class_3/mkd/metrics.json").read_text())
    assert metrics["pixel_auroc"] is None
    assert "no masks" in metrics["localisation_left_out"]
    assert metrics["image_auroc"] > 0.5
