"""The whole DAG of `conf/test`, once, and what it leaves."""

import json
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import numpy as np
import pandas as pd
import pytest

from projects import copy_project, run_pipeline

METHODS = ["discrepancy", "gradients", "smooth_grad", "guided_backprop"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("project"), migrated_database)
    run_pipeline(project, "test")
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
    assert set(metrics["seconds"]) == {"features", "cloner", "scoring", "gradient_maps"}
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
    held_out = scores.loc[scores["split"] == "validation", "score"]
    assert (scores.loc[scores["split"] == "validation", "label"] == 0).all()
    assert metrics["threshold"]["value"] in held_out.to_numpy()
    assert metrics["threshold"]["held_out_images"] == len(held_out)


def test_maps_have_the_images_size(finished):
    folder = finished / "data/07_model_output/textures/brick/mkd/maps"
    for method in METHODS:
        maps = np.load(folder / f"{method}.npy")
        assert maps.shape[1:] == (64, 64)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()


def test_figures_are_there_and_nothing_is_left_half_written(finished, report):
    assert {path.name for path in report.iterdir()} == {
        "metrics.json", "scores.csv", "roc.png", "pro.png", "score_histogram.png", "loss.png", "heatmaps.png"
    }  # fmt: skip
    assert not [path for path in finished.rglob("*") if path.suffix in (".tmp", ".checkpoint")]


@pytest.fixture(scope="module")
def logged(finished) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("kdad").experiment_id])
    return found


def test_run_is_logged_finished_with_flat_parameters(logged):
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "mkd textures/brick efficientnet_lite0 seed 0"
    assert logged.data.params["dataset.category"] == "brick"
    assert logged.data.params["cloner.training.epochs"] == "2"
    assert max(len(value) for value in logged.data.params.values()) <= 250
    assert logged.data.tags["commit"]


def test_every_node_left_its_duration_and_what_it_made(finished, logged):
    from kdad.pipeline_registry import register_pipelines

    nodes = {node.name for node in register_pipelines()["mkd"].nodes}
    assert {name.removeprefix("seconds.") for name in logged.data.metrics if name.startswith("seconds.")} >= nodes
    folder = Path(urlparse(logged.info.artifact_uri).path) / "nodes"
    assert {path.stem for path in folder.iterdir()} == nodes


def test_loss_history_metrics_and_figures_are_logged(finished, logged, metrics):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    history = client.get_metric_history(logged.info.run_id, "cloner.validation.total")
    assert [point.step for point in history] == [0, 1]
    assert logged.data.metrics["image_auroc"] == metrics["image_auroc"]
    assert logged.data.metrics["localisation.gradients.pro_auc"] == metrics["localisation"]["gradients"]["pro_auc"]
    artifacts = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert {
        "metrics.json",
        "scores.csv",
        "heatmaps.png",
        "roc.png",
        "pro.png",
        "loss.png",
        "cloner.safetensors",
    } <= artifacts


def test_no_run_stays_active(finished):
    assert mlflow.active_run() is None


def test_a_second_run_reuses_the_activations_and_repeats_the_metrics(finished, report, metrics):
    run_pipeline(finished, "test")
    again = json.loads((report / "metrics.json").read_text())
    assert again["source_activations_reused"]
    assert not metrics["source_activations_reused"]
    volatile = {"seconds", "source_activations_reused", "peak_memory_gb", "commit"}
    assert {k: v for k, v in again.items() if k not in volatile} == {
        k: v for k, v in metrics.items() if k not in volatile
    }
