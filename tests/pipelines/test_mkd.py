"""The whole DAG of `conf/test`, once, and what it leaves."""

import json
import re
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.detectors.opening import open_detector
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from projects import FEW, FIGURES, SMALL, artifacts_of, copy_project, half_written, kept_by, logged_runs, run_pipeline

RUN = SMALL | {"cloner": {"training": {"epochs": 3, "checkpoint_every": 1}}}
METHODS = ["discrepancy", "gradients", "smooth_grad", "guided_backprop"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("project"), migrated_database)
    run_pipeline(project, "test", drawn=True, runtime_params=RUN)
    return project


@pytest.fixture(scope="module")
def report(finished) -> Path:
    return finished / "data/08_reporting/textures/brick/mkd"


@pytest.fixture(scope="module")
def metrics(report) -> dict:
    return json.loads((report / "metrics.json").read_text())


def test_metrics_say_what_was_measured_on_which_data(metrics):
    assert {
        "dataset": "textures",
        "category": "brick",
        "seed": 0,
        "source": "efficientnet_lite0",
    }.items() <= metrics.items()
    assert set(metrics["seconds"]) == {"features", "fitting", "mapping"}
    assert list(metrics["seconds"]["mapping"]) == METHODS
    assert metrics["parameters"] > 0
    assert metrics["flops"] > 0
    for name in (
        "image_auroc",
        "image_ap",
        "image_f1_max",
        "pixel_auroc",
        "pixel_ap",
        "pro_auc",
        "pixel_auroc_mkd_protocol",
    ):
        assert 0 <= metrics[name] <= 1, name
    assert list(metrics["localisation"]) == METHODS


def test_scores_have_a_row_for_each_held_out_and_test_image(finished, report):
    scores = pd.read_csv(report / "scores.csv")
    split = pd.read_csv(finished / "data/03_primary/textures/brick/split.csv")
    assert sorted(scores["id"]) == sorted(split.loc[split["split"] != "train", "id"])
    assert ((scores["score"] > scores["threshold"]) == scores["decision"]).all()


def test_threshold_comes_from_held_out_normal_images_only(report, metrics):
    scores = pd.read_csv(report / "scores.csv")
    validation = scores.loc[scores["split"] == "validation", "score"]
    assert (scores.loc[scores["split"] == "validation", "label"] == 0).all()
    assert metrics["threshold"]["value"] in validation.to_numpy()
    assert set(metrics["threshold"]) == {
        *("value", "rule", "wanted", "expected_false_positive_rate", "false_positive_rate_bound"),
        *("false_positive_rate_low", "false_positive_rate_high"),
        *("normal_images", "anomalous_images", "group_scores", "group_score", "group_value", "group_means"),
    }
    assert metrics["threshold"]["normal_images"] == len(validation)
    assert metrics["threshold"]["anomalous_images"] == 0


def test_maps_have_the_images_size(finished):
    folder = finished / "data/07_model_output/textures/brick/mkd/maps"
    for method in METHODS:
        maps = np.load(folder / f"{method}.npy")
        assert maps.shape[1:] == (64, 64)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()


def test_figures_are_there_and_nothing_is_left_half_written(finished, report):
    assert {path.name for path in report.iterdir()} == {
        *("metrics.json", "scores.csv", "heatmaps.png", "report.html", *FIGURES)
    }
    assert not half_written(finished)


def test_the_detector_predicts_as_the_run_did(finished, report):
    folder = finished / "data/06_models/textures/brick/mkd/detector"
    assert {path.name for path in folder.iterdir()} == {"detector.json", "learnt.safetensors"}
    detector = open_detector(folder)
    images = open_image_set(DatasetParameters(name="textures", category="brick", image_size=64, textures=FEW))
    rows = {sample.id: row for row, sample in enumerate(images.samples)}
    scores = pd.read_csv(report / "scores.csv")
    batch = torch.from_numpy(np.stack([images.image(rows[name]) for name in scores["id"]]))
    predicted = detector.predict_batch(batch)
    np.testing.assert_allclose([found.score for found in predicted], scores["score"], rtol=1e-3)
    assert detector.threshold.value == scores["threshold"].iloc[0]
    assert detector.record["metrics"]["image_auroc"] == json.loads((report / "metrics.json").read_text())["image_auroc"]


@pytest.fixture(scope="module")
def logged(finished) -> mlflow.entities.Run:
    (found,) = logged_runs(finished)
    return found


def test_run_is_logged_finished_with_flat_parameters(logged):
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "mkd textures/brick efficientnet_lite0 seed 0"
    assert logged.data.params["dataset.category"] == "brick"
    assert logged.data.params["cloner.training.epochs"] == "3"
    assert max(len(value) for value in logged.data.params.values()) <= 250
    assert logged.data.tags["commit"]


def test_every_node_left_its_duration_and_what_it_made(finished, logged):
    from kdad.pipeline_registry import register_pipelines

    nodes = {node.name for node in register_pipelines()["mkd"].nodes}
    table = pd.read_csv(Path(urlparse(logged.info.artifact_uri).path) / "nodes.csv")
    assert set(table["node"]) == nodes
    assert table["seconds"].sum() <= logged.data.metrics["seconds_total"]
    seconds = {f"seconds.{row.node}": row.seconds for row in table.itertuples()}
    assert logged.data.metrics.items() >= seconds.items()
    assert int(logged.data.params["flops"]) > 0 and "flops" not in logged.data.metrics


def test_the_report_links_to_detector_data_report_and_run(report, logged, metrics):
    page = (report / "report.html").read_text()
    links = dict(re.findall(r'<dt>(detector|data report|MLflow)</dt><dd><a href="(.*?)">', page))
    assert links.pop("MLflow") == f"http://127.0.0.1:5000/#/runs/{logged.info.run_id}"
    assert [(report / link).resolve().name for link in links.values()] == ["detector", "data_report.html"]
    assert all((report / link).exists() for link in links.values())
    assert f"<dt>command</dt><dd>{logged.data.tags['command']}</dd>" in page.replace("&#39;", "'").replace("&#34;", '"')
    shown = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["images"]
    assert len(shown) == metrics["test_normal"] + metrics["test_anomalous"]
    assert all("map" in image and ("mask" in image) == (image["label"] == 1) for image in shown)


def test_loss_history_metrics_and_figures_are_logged(finished, logged, metrics):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    history = client.get_metric_history(logged.info.run_id, "cloner.validation.total")
    assert [point.step for point in history] == [0, 1, 2]
    assert logged.data.metrics["image_auroc"] == metrics["image_auroc"]
    assert logged.data.metrics["pro_auc.gradients"] == metrics["localisation"]["gradients"]["pro_auc"]
    files = {"metrics.json", "scores.csv", "heatmaps.png", "roc.svg", "pro.svg", "loss.svg", "report.html"}
    assert files <= artifacts_of(finished, logged)
    assert kept_by(finished, logged) == {"detector.json", "learnt.safetensors"}


def test_no_run_stays_active(finished):
    assert mlflow.active_run() is None


def numbers(metrics: dict) -> dict:
    """The metrics without what differs from run to run."""
    volatile = {"seconds", "features_reused", "fitting_reused", "peak_memory_gb", "commit"}
    return {name: value for name, value in metrics.items() if name not in volatile}


def test_a_second_run_reuses_features_and_cloner_and_repeats_the_metrics(finished, report, metrics, logged):
    run_pipeline(finished, "test", runtime_params=RUN)
    again = json.loads((report / "metrics.json").read_text())
    assert again["features_reused"]
    assert again["fitting_reused"]
    assert not metrics["features_reused"]
    assert not metrics["fitting_reused"]
    assert numbers(again) == numbers(metrics)


@pytest.mark.faults
def test_a_run_killed_while_it_trains_goes_on_to_the_same_metrics(
    tmp_path, migrated_database, metrics, monkeypatch, caplog
):
    project = copy_project(tmp_path / "killed", migrated_database)
    train_killed_at(monkeypatch, 1, run_pipeline, project, "test", runtime_params=RUN)
    run_pipeline(project, "test", runtime_params=RUN)
    assert "Resuming cloner after epoch 1" in caplog.text
    report = project / "data/08_reporting/textures/brick/mkd"
    assert numbers(json.loads((report / "metrics.json").read_text())) == numbers(metrics)
    assert not half_written(project)
