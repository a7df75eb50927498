"""The pipeline `baselines` over the whole DAG of `conf/test`."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError

import kdad.detectors.baselines.runs
from kdad.scoring.smoothing import gaussian_filter
from projects import copy_project, run_pipeline

FEW = {"train_images": 12, "validation_images": 5, "test_normal": 4, "test_per_defect": 1}
RUN = {"dataset": {"textures": FEW}, "baselines": {"smoothing": {"gaussian_sigma": 1.0}}}
MAPPED = {
    *("memory_bank", "position_gaussian", "feature_dictionary", "patch_kmeans", "patch_ocsvm"),
    *("l2_autoencoder", "ssim_autoencoder", "variational_autoencoder"),
}
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
    assert len(table) == 21
    assert table["image_auroc"].between(0, 1).all()
    assert (table[["fit_seconds", "milliseconds_an_image", "kept_megabytes"]] > 0).all(axis=None)
    assert (table["peak_megabytes"] >= 0).all()
    assert set(table.index[table["pro_auc"].notna()]) == MAPPED


def test_baselines_that_map_have_a_sheet(finished):
    assert {path.stem for path in (finished / PLACE / "heatmaps").iterdir()} == MAPPED


def test_detection_by_maps_is_the_mean_of_their_largest_values(finished, table):
    folders = pd.read_json(finished / "data/07_model_output/textures/brick/baselines/folders.json", typ="series")
    folder = finished / folders["memory_bank"]
    maps, scores = np.load(folder / "maps.npy"), np.load(folder / "scores.npy")
    assert maps.shape == (5 + 4 + 5, 64, 64)
    np.testing.assert_allclose(maps, gaussian_filter(np.load(folder / "raw_maps.npy"), 1.0), rtol=1e-5)
    largest = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -41:].mean(axis=1)  # 1 % of 4096 pixels, rounded
    np.testing.assert_allclose(scores, largest, rtol=5e-3)


def test_baselines_none_of_which_maps_have_a_table_and_no_sheet(tmp_path, migrated_database, table):
    project = copy_project(tmp_path / "no maps", migrated_database)
    methods = dict.fromkeys(set(table.index) - {"nearest_source"})
    run_pipeline(project, "test", "baselines", runtime_params=RUN | {"baselines": {"methods": methods}})
    assert pd.read_csv(project / PLACE / "baselines.csv")["method"].tolist() == ["nearest_source"]
    assert not (project / PLACE / "heatmaps").exists()


def test_the_table_is_in_mlflow(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert {"baselines.csv", "baselines.html"} <= {found.path for found in client.list_artifacts(run.info.run_id)}
    shown = pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")
    assert run.data.metrics["nearest_source.image_auroc"] == shown.loc["nearest_source", "image_auroc"]
    assert "nearest_source.pro_auc" not in run.data.metrics


def test_a_second_run_fits_nothing(finished, table, monkeypatch):
    monkeypatch.setattr(kdad.detectors.baselines.runs.BaselineRun, "run", None)
    run_pipeline(finished, "test", "baselines", runtime_params=RUN)
    again = pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")
    pd.testing.assert_frame_equal(again, table)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"memory_bank": {"detector": "memory_bank", "representation": "pixels"}}, "leave representation out"),
        ({"mine": {"detector": "knn"}}, "needs a representation"),
        ({"mine": {"detector": "nearest"}}, r"baselines\.methods\.mine\.detector"),
        ({"memory_bank": {"options": {"patch": 9}}}, r"unknown parameter 'patch'; did you mean 'patches'"),
        ({"l2_autoencoder": {"options": {"epochs": 0}}}, r"options\.epochs: Input should be greater than"),
        ({"feature_dictionary": {"options": {"explained": 1.5}}}, r"methods\.feature_dictionary: options\.explained"),
    ],
)
def test_a_wrong_method_is_one_message(run, methods, message):
    with pytest.raises(KedroCliError, match=message):
        run(pipeline="baselines", runtime_params={"baselines": {"methods": methods}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": ["pool9"]}, "points names 'pool9'; the source has"),
        ({"methods": {"ssim_autoencoder": {"options": {"depth": 7}}}}, "methods.ssim_autoencoder: depth 7 needs image"),
        ({"methods": {"lof_source": {"options": {"neighbours": 3}}}}, "methods.lof_source: lof does not take these"),
    ],
)
def test_what_only_the_data_tell_is_one_message_before_anything_is_fitted(project, run, change, message):
    with pytest.raises(KedroCliError, match=message):
        run(pipeline="baselines", runtime_params={"dataset": RUN["dataset"], "baselines": change})
    assert not list((project / "data/07_model_output/textures/brick/baselines").glob("*"))


def test_a_method_that_fails_ends_the_run_by_its_name_and_leaves_what_is_done(project, run):
    methods = {"gmm_pca": {"options": {"n_components": 50}}}
    with pytest.raises(
        KedroCliError, match=r"methods\.gmm_pca failed \(ValueError.*or leave it out with gmm_pca: null"
    ):
        run(pipeline="baselines", runtime_params={"dataset": RUN["dataset"], "baselines": {"methods": methods}})
    done = [path.name for path in (project / "data/07_model_output/textures/brick/baselines").iterdir()]
    assert len(done) == 1  # kde_pca comes first
    assert not done[0].endswith(".partial")


def test_the_page_shows_the_table_and_every_sheet(finished, table):
    page = (finished / PLACE / "baselines.html").read_text()
    assert page.count("data:image/png;base64,") == len(MAPPED)
    for name in table.index:
        assert f"<td>{name.replace('_', ' ')}</td>" in page
    assert f"{table.loc['memory_bank', 'pro_auc']:.3f}" in page
