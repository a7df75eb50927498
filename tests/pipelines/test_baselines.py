"""The pipeline `baselines` over the whole DAG of `conf/test`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from kedro.framework.cli.utils import KedroCliError
from scipy.ndimage import gaussian_filter

from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.feature_distance import FeatureDistanceDetector
from kdad.detectors.opening import open_detector
from kdad.detectors.registry import SYSTEMS
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from projects import FEW, PROJECT, SMALL, STANDING, artifacts_of, copy_project, half_written, logged_runs, run_pipeline

METHODS = yaml.safe_load((PROJECT / "conf/base/parameters/baselines.yml").read_text())["baselines"]["methods"]
#: Some of each kind; the others run in a long test.
SOME = ["kde_pca", "nearest_source", "pca_reconstruction", "memory_bank", "position_gaussian", "l2_autoencoder"]
SMOOTHED = {"smoothing": {"gaussian_sigma": 1.0}}
RUN = SMALL | {"baselines": SMOOTHED | {"methods": dict.fromkeys(set(METHODS) - set(SOME))}}
MAPPED = {"memory_bank", "position_gaussian", "l2_autoencoder", *STANDING}
PLACE = Path("data/08_reporting/textures/brick/baselines")
MODELS = Path("data/06_models/textures/brick")
DETECTORS = MODELS / "baselines"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("baselines"), migrated_database)
    run_pipeline(project, "test", "baselines", runtime_params=RUN)
    return project


@pytest.fixture
def table(finished) -> pd.DataFrame:
    return pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")


def check_table(table: pd.DataFrame, methods: list[str], mapped: set[str]) -> None:
    assert table.index.tolist() == [*methods, *STANDING]
    assert table["image_auroc"].between(0, 1).all()
    assert (table[["fit_seconds", "milliseconds_an_image", "kept_megabytes"]] > 0).all(axis=None)
    assert (table["peak_megabytes"] >= 0).all()
    assert set(table.index[table["pro_auc"].notna()]) == mapped


def test_baselines_have_metrics_and_costs(table):
    check_table(table, SOME, MAPPED)


@pytest.mark.long
def test_every_baseline_has_metrics_and_costs(project):
    run_pipeline(project, "test", "baselines", runtime_params=SMALL | {"baselines": SMOOTHED})
    assert len(METHODS) == 21
    others = {"feature_dictionary", "patch_kmeans", "patch_ocsvm", "ssim_autoencoder", "variational_autoencoder"}
    check_table(pd.read_csv(project / PLACE / "baselines.csv").set_index("method"), list(METHODS), MAPPED | others)


def test_baselines_that_map_have_a_sheet(finished):
    assert {path.stem for path in (finished / PLACE / "heatmaps").iterdir()} == MAPPED


def test_every_baseline_leaves_its_detector(finished, table):
    folders = {path.parent.name: path for path in (finished / DETECTORS).glob("*/detector")}
    assert set(folders) == set(table.index)
    for name, folder in folders.items():
        detector = open_detector(folder)
        assert detector.record["metrics"]["image_auroc"] == table.loc[name, "image_auroc"]
    assert not half_written(finished)


def test_detection_by_maps_is_the_mean_of_their_largest_values(finished):
    detector = open_detector(finished / DETECTORS / "memory_bank/detector")
    images = open_image_set(DatasetParameters(name="textures", category="brick", image_size=64, textures=FEW))
    rows = [row for row, sample in enumerate(images.samples) if sample.subset == "test"]
    batch = torch.from_numpy(np.stack([images.image(row) for row in rows]))
    predicted = detector.predict_batch(batch)
    maps, scores = np.stack([found.map for found in predicted]), np.array([found.score for found in predicted])
    assert maps.shape == (4 + 5, 64, 64)
    np.testing.assert_allclose(maps, gaussian_filter(detector.maps(batch).maps["anomaly"], (0, 1, 1)), rtol=1e-5)
    largest = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -41:].mean(axis=1)  # 1 % of 4096 pixels, rounded
    np.testing.assert_allclose(scores, largest, rtol=5e-3)
    results = json.loads((finished / "data/07_model_output/textures/brick/baselines/baselines.json").read_text())
    (measured,) = [result for result in results if result["variant"] == "memory_bank"]
    np.testing.assert_allclose(scores, measured["scores"], rtol=1e-4)


def test_baselines_none_of_which_maps_have_a_table_and_no_sheet(tmp_path, migrated_database, monkeypatch):
    for system in STANDING:
        monkeypatch.setattr(SYSTEMS[system].Settings, "stands_among_baselines", False)
    project = copy_project(tmp_path / "no maps", migrated_database)
    methods = dict.fromkeys(set(METHODS) - {"nearest_source"})
    run_pipeline(project, "test", "baselines", runtime_params=RUN | {"baselines": {"methods": methods}})
    assert pd.read_csv(project / PLACE / "baselines.csv")["method"].tolist() == ["nearest_source"]
    assert not (project / PLACE / "heatmaps").exists()


def test_the_table_is_in_mlflow(finished, table):
    runs = logged_runs(finished)
    (run,) = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    assert {"baselines.csv", "baselines.html", *(f"{name}.png" for name in MAPPED)} <= artifacts_of(finished, run)
    assert run.data.metrics["nearest_source.image_auroc"] == table.loc["nearest_source", "image_auroc"]
    results = {name for name in run.data.metrics if not name.startswith("seconds")}
    assert results == {f"{method}.image_auroc" for method in table.index}
    assert {found.data.tags["variant"] for found in runs if found != run} == set(table.index)


def test_the_page_shows_the_table_and_every_sheet(finished, table):
    page = (finished / PLACE / "baselines.html").read_text()
    assert "<code>kedro run --pipeline=mkd</code>" in page
    assert page.count("data:image/png;base64,") == len(MAPPED)
    for name in table.index:
        assert f'<th scope="row">{name.replace("_", " ")}</th>' in page
    assert f"{table.loc['memory_bank', 'pro_auc']:.4f}" in page


def test_a_second_run_fits_nothing_and_shows_what_other_runs_have_trained(finished, table, monkeypatch):
    for system in (BaselineDetector, FeatureDistanceDetector):
        monkeypatch.setattr(system, "fit", None)
    facts = json.loads((finished / DETECTORS / "memory_bank/detector/detector.json").read_text())
    facts["made_by"]["metrics"] |= {"image_auroc": 0.123, "image_auroc_low": 0.1, "image_auroc_high": 0.2}
    own = {system: finished / f"{MODELS}/{system}/detector/detector.json" for system in ("mkd", "committee", "stfpm")}
    for system, path in own.items():  # of the same images
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(facts | {"system": system}))
    run_pipeline(finished, "test", "baselines", runtime_params=RUN)
    again = pd.read_csv(finished / PLACE / "baselines.csv").set_index("method")
    assert again.index.tolist() == [*table.index, "mkd", "committee"]
    assert again.loc["mkd", "image_auroc"] == 0.123
    pd.testing.assert_frame_equal(again.drop(["committee", "mkd"]).drop(columns="run"), table)
    page = (finished / PLACE / "baselines.html").read_text()
    assert f'<th scope="row">mkd ({again.loc["mkd", "run"]})</th>' in page
    assert "No row of uninformed_students" in page
    assert "No row of mkd" not in page
    for system, path in own.items():  # a table replaces nobody's detector
        assert json.loads(path.read_text()) == facts | {"system": system}


@pytest.mark.sample(2)
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


@pytest.mark.sample(1)
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
    for layer in ("06_models", "07_model_output"):
        assert not (project / "data" / layer).exists()


def test_a_method_that_fails_ends_the_run_by_its_name_and_leaves_what_is_done(finished, project, run):
    stores = ("data/04_feature/store", "data/06_models/store", "data/07_model_output/store")
    for store in stores:  # what else runs is as in the finished project, and not made again
        shutil.copytree(finished / store, project / store)
    methods = dict.fromkeys(set(METHODS) - {"kde_pca"}) | {"gmm_pca": {"options": {"n_components": 50}}}
    with pytest.raises(
        KedroCliError, match=r"methods\.gmm_pca failed \(ValueError.*or leave it out with gmm_pca: null"
    ):
        run(pipeline="baselines", runtime_params=RUN | {"baselines": SMOOTHED | {"methods": methods}})
    assert pd.read_csv(project / PLACE / "baselines.csv")["method"].tolist() == ["kde_pca", *STANDING]
    assert pd.read_csv(project / PLACE / "missing.csv")["variant"].tolist() == ["gmm_pca"]
    kept = {path.parent.name for path in (project / DETECTORS).glob("*/detector")}
    assert kept == {"kde_pca", *STANDING}
    assert not half_written(project)
