"""The pipeline `baselines` over the whole DAG of `conf/test`."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError

import kdad.baselines.runs
from projects import copy_project, run_pipeline

FEW = {"train_images": 12, "validation_images": 5, "test_normal": 4, "test_per_defect": 1}
QUICK = {
    "auto_encoder": {"options": {"epoch_num": 1}},
    "vae": {"options": {"epoch_num": 1}},
    "deep_svdd": {"options": {"epochs": 1}},
    "anogan": {"options": {"epochs": 1, "epochs_query": 1}},
    "l2_autoencoder": {"options": {"epochs": 1, "width": 4}},
    "ssim_autoencoder": {"options": {"epochs": 1, "width": 4}},
    "memory_bank": {"options": {"patches": 100}},
    "feature_dictionary": {"options": {"patches": 100, "words": 5}},
}
RUN = {"dataset": {"textures": FEW}, "baselines": {"methods": QUICK, "bootstrap_resamples": 100}}
MAPPED = {"memory_bank", "position_gaussian", "feature_dictionary", "l2_autoencoder", "ssim_autoencoder"}
PLACE = Path("data/08_reporting/textures/brick/baselines")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("baselines"), migrated_database)
    run_pipeline(project, "test", "baselines", runtime_params=RUN)
    return project


@pytest.fixture
def table(finished) -> pd.DataFrame:
    return pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")


def test_every_baseline_has_metrics_and_costs(table):
    assert len(table) == 18
    assert table["image_auroc"].between(0, 1).all()
    assert (table[["fit_seconds", "milliseconds_an_image", "kept_megabytes"]] > 0).all(axis=None)
    assert set(table.index[table["pro_auc"].notna()]) == MAPPED


def test_baselines_that_map_have_a_sheet(finished):
    assert {path.stem for path in (finished / PLACE / "heatmaps").iterdir()} == MAPPED


def test_detection_by_maps_is_the_mean_of_their_largest_values(finished, table):
    folders = pd.read_json(finished / "data/07_model_output/textures/brick/baselines/folders.json", typ="series")
    folder = finished / folders["memory_bank"]
    maps, scores = np.load(folder / "maps.npy"), np.load(folder / "scores.npy")
    assert maps.shape == (5 + 4 + 5, 64, 64)
    largest = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -41:].mean(axis=1)  # 1 % of 4096 pixels, rounded
    np.testing.assert_allclose(scores, largest, rtol=5e-3)


def test_the_table_is_in_mlflow(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert "baselines.csv" in {found.path for found in client.list_artifacts(run.info.run_id)}


def test_a_second_run_fits_nothing(finished, table, monkeypatch):
    monkeypatch.setattr(kdad.baselines.runs.BaselineRun, "run", None)
    run_pipeline(finished, "test", "baselines", runtime_params=RUN)
    again = pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")
    pd.testing.assert_frame_equal(again, table)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"memory_bank": {"detector": "memory_bank", "representation": "pixels"}}, "leave representation out"),
        ({"mine": {"detector": "knn"}}, "needs a representation"),
        ({"mine": {"detector": "nearest"}}, r"baselines\.methods\.mine\.detector"),
    ],
)
def test_a_wrong_method_is_one_message(run, methods, message):
    with pytest.raises(KedroCliError, match=message):
        run(pipeline="baselines", runtime_params={"baselines": {"methods": methods}})


def test_a_critical_point_that_is_not_there_is_named_before_anything_is_fitted(project, run):
    with pytest.raises(Exception, match="names 'pool9'; the source has"):
        run(pipeline="baselines", runtime_params=RUN | {"baselines": {**RUN["baselines"], "points": ["pool9"]}})
    assert not list((project / "data/07_model_output/textures/brick/baselines").glob("*"))
