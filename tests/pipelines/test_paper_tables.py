"""The pipeline `paper_tables` over the whole DAG: both systems on two textures, and resuming."""

import itertools
import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from kedro.framework.cli.utils import KedroCliError

from projects import PROJECT, copy_project, run_pipeline

METHODS = {
    "mkd": {"system": "mkd", "paper": ["MKD"]},
    "students_p33": {
        "system": "uninformed_students",
        "paper": ["Uninformed Students p=33"],
        "settings": {"students": {"receptive_fields": [33], "count": 1}},
    },
    "memory_bank": {"system": "baselines", "paper": ["1-NN"]},
    "ocsvm_pca": {"system": "baselines", "paper": ["OCSVM"]},
    "soft_target": {"system": "soft_target"},
}
LEFT_OUT = (
    *("deep_svdd", "anogan", "vae", "kde_pca", "nearest_pixels", "nearest_source"),
    *("position_gaussian", "feature_dictionary", "patch_kmeans", "patch_ocsvm"),
    *("l2_autoencoder", "ssim_autoencoder", "variational_autoencoder"),
)
METHODS |= dict.fromkeys(LEFT_OUT)
RUN_METHODS = ("mkd", "students_p33", "memory_bank", "ocsvm_pca")  # textures have no classes to distil from
BLOCK = {
    "paper_dataset": "mvtec_ad",
    "categories": ["brick", "grass"],
    "seeds": [0, 1],
    "methods": METHODS,
}
DIGITS = {"name": "digits", "category": None, "normal_class": 8, "image_size": 32}
FEW = {"train_images": 4, "validation_images": 3, "test_normal": 2, "test_per_defect": 1}
RUN = {
    "dataset": {"textures": FEW},
    "scoring": {"localisation": ["discrepancy"]},
    "cloner": {"training": {"epochs": 1}},
    "teacher": {"training": {"epochs": 1}},
    "students": {"training": {"epochs": 1}},
    "student_scoring": {"localisation": ["regression_error"]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("tables"), migrated_database)
    # The papers do not have textures: bottle and cable lend their names to two of them.
    path = project / "data/01_raw/paper_results.csv"
    path.write_text(path.read_text().replace(",bottle,", ",brick,").replace(",cable,", ",grass,"))
    run_pipeline(project, "test", "paper_tables", runtime_params=RUN | {"paper_tables": BLOCK})
    return project


@pytest.fixture(scope="module")
def cells(finished) -> pd.DataFrame:
    return pd.read_csv(finished / "data/08_reporting/textures/paper_tables/cells.csv")


def test_ours_stand_beside_the_printed_figures(cells):
    (mkd,) = (
        cells[(cells["table"] == "mkd_mvtec") & (cells["category"] == "brick")]
        .query("method == 'MKD' and metric == 'image_auroc_percent'")
        .iloc
    )
    assert mkd["paper"] == 99.39
    assert mkd["seeds"] == 2
    assert mkd["difference"] == pytest.approx(mkd["ours"] - 99.39)
    students = cells[(cells["table"] == "us_pro") & (cells["method"] == "Uninformed Students p=33")]
    shown = students.set_index("category")
    assert set(shown.index) == {"brick", "grass", "mean"}  # the table prints p = 33 for the mean alone
    assert shown.loc["mean", "paper"] == 0.9
    assert shown.loc[["brick", "grass"], "paper"].isna().all()
    assert shown.loc[["brick", "grass"], "ours"].notna().all()


def test_a_mean_over_fifteen_categories_is_not_made_of_two(cells):
    assert cells.loc[(cells["category"] == "mean"), "ours"].isna().all()


def test_page_names_what_was_not_run(finished):
    page = (finished / "data/08_reporting/textures/paper_tables/paper_tables.html").read_text()
    assert "source efficientnet_lite0, teachers distilled from efficientnet_lite0, seeds 0, 1, commit" in page
    assert "Not run here:" in page
    assert "AnoGAN" in page


def test_each_cell_is_a_run_in_mlflow(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    children = [run for run in runs if "axis" in run.data.tags]
    found = {(run.data.tags["variant"], run.data.tags["category"], run.data.tags["seed"]) for run in children}
    assert found == set(itertools.product(RUN_METHODS, ("brick", "grass"), "01"))
    assert all(run.info.status == "FINISHED" and "image_auroc" in run.data.metrics for run in children)


def test_baselines_stand_in_the_same_tables_as_their_own_pipeline_measures_them(finished, cells):
    runtime = RUN | {
        "dataset": RUN["dataset"] | {"category": "brick"},
        "baselines": {"methods": _only("memory_bank", "ocsvm_pca")},
    }
    run_pipeline(finished, "test", "baselines", runtime_params=runtime)
    table = pd.read_csv(finished / "data/08_reporting/textures/brick/baselines/baselines.csv")
    own = table.set_index("method").loc["memory_bank"]
    by_case = finished / "data/07_model_output/textures/paper_tables/results"
    result = json.loads((by_case / "paper_baselines.memory_bank.brick_seed_0.json").read_text())
    assert {name: result["metrics"][name] for name in ("image_auroc", "pro_auc")} == {
        name: own[name] for name in ("image_auroc", "pro_auc")
    }
    fitted = {
        (name, seed): json.loads((by_case / f"paper_baselines.{name}.brick_seed_{seed}.json").read_text())["reused"]
        for name in ("memory_bank", "ocsvm_pca")
        for seed in (0, 1)
    }
    assert [key for key, reused in fitted.items() if reused] == [("ocsvm_pca", 1)]  # the seed changes nothing in it
    shown = cells[(cells["table"] == "us_pro") & (cells["method"] == "1-NN") & (cells["category"] == "brick")]
    assert shown["paper"].notna().all()
    assert shown["seeds"].tolist() == [2]


def _only(*names: str) -> dict[str, None]:
    known = yaml.safe_load((PROJECT / "conf/base/parameters/baselines.yml").read_text())["baselines"]["methods"]
    return {other: None for other in known if other not in names}


def test_soft_targets_stand_beside_the_other_methods_of_a_labelled_set(tmp_path, migrated_database):
    project = copy_project(tmp_path / "digits", migrated_database)
    methods = {**dict.fromkeys(METHODS), "soft_target": {"system": "soft_target"}, "mkd": None}
    students = {"receptive_fields": [33], "count": 1, "training": {"epochs": 1}}
    methods["students_p33"] = {"system": "uninformed_students", "paper": ["U-Std"], "settings": {"students": students}}
    methods["students_p33"]["image_size"] = 36  # images of 32 pixels are smaller than the receptive field
    block = {"categories": [3, 8], "seeds": [0], "methods": methods}
    run_pipeline(project, "test", "paper_tables", runtime_params={"dataset": DIGITS, "paper_tables": block})
    cells = pd.read_csv(project / "data/08_reporting/digits/paper_tables/cells.csv", dtype={"category": str})
    shown = cells[(cells["method"] == "soft_target") & cells["ours"].notna()]
    assert shown["category"].tolist() == ["3", "8"]
    assert shown["ours"].between(0, 100).all()
    printed = cells[(cells["method"] == "U-Std") & cells["ours"].notna()]
    assert printed[["category", "paper"]].values.tolist() == [["3", 99.3], ["8", 98.6]]
    run_pipeline(project, "test", "soft_target", runtime_params={"dataset": DIGITS})
    table = pd.read_csv(project / "data/08_reporting/digits/soft_target/anomaly.csv")
    own = table[(table["seed"] == 0) & table["normal_class"].isin([3, 8])]
    assert own["image_auroc"].tolist() == pytest.approx((shown["ours"] / 100).tolist())


def test_a_second_run_trains_nothing(finished, cells):
    results = finished / "data/07_model_output/textures/mkd_ablation/results/paper_mkd.mkd.brick_seed_0.json"
    assert not json.loads(results.read_text())["reused"]
    run_pipeline(finished, "test", "paper_tables", runtime_params=RUN | {"paper_tables": BLOCK})
    assert json.loads(results.read_text())["reused"]
    again = pd.read_csv(finished / "data/08_reporting/textures/paper_tables/cells.csv")
    pd.testing.assert_frame_equal(again, cells)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": "us_prp"}, "there is no table 'us_prp'; did you mean 'us_pro'"),
        ({"methods": dict.fromkeys(METHODS)}, "leaves every method out"),
        ({"methods": {"mkd": {"system": "mkd", "settings": {"clonr": {}}}}}, "changes 'clonr'"),
        ({"methods": {"mkd": {"system": "mkds"}}}, "paper_tables.methods.mkd.system"),
        ({"seeds": []}, "paper_tables.seeds"),
        ({"methods": {"memory_banc": {"system": "baselines"}}}, "no 'memory_banc'; did you mean 'memory_bank'"),
        ({"methods": {"vae": {"system": "baselines", "settings": {"cloner": {}}}}}, "may change 'baselines' alone"),
        ({"methods": {"mkd": {"system": "mkd", "tables": "us_prp"}}}, "there is no table 'us_prp'"),
        ({"methods": {"mkd": {"system": "mkd", "image_size": 64}}}, "image_size is for uninformed_students"),
        ({"methods": {"students_p33": {"image_size": 4}}}, "each from 8 to 8192"),
    ],
)
def test_a_wrong_block_is_one_message(project, run, change, message):
    with pytest.raises(KedroCliError, match=message):
        run(pipeline="paper_tables", runtime_params={"paper_tables": change})
