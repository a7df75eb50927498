"""The pipeline `paper_tables` over the whole DAG: both systems on two textures, and resuming."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError

from projects import copy_project, run_pipeline

METHODS = {
    "mkd": {"system": "mkd", "paper": ["MKD"]},
    "students_p33": {
        "system": "uninformed_students",
        "paper": ["Uninformed Students p=33"],
        "settings": {"students": {"receptive_fields": [33], "count": 1}},
    },
}
BLOCK = {
    "paper_dataset": "mvtec_ad",
    "categories": ["brick", "grass"],
    "seeds": [0, 1],
    "methods": METHODS,
}
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
    assert "Not run here:" in page
    assert "AnoGAN" in page


def test_each_cell_is_a_run_in_mlflow(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    children = [run for run in runs if "axis" in run.data.tags]
    found = {(run.data.tags["variant"], run.data.tags["category"], run.data.tags["seed"]) for run in children}
    assert found == {(method, category, seed) for method in METHODS for category in ("brick", "grass") for seed in "01"}
    assert all(run.info.status == "FINISHED" and "image_auroc" in run.data.metrics for run in children)


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
        ({"methods": {"mkd": None, "students_p33": None}}, "leaves every method out"),
        ({"methods": {"mkd": {"system": "mkd", "settings": {"clonr": {}}}}}, "changes 'clonr'"),
        ({"methods": {"mkd": {"system": "mkds"}}}, "paper_tables.methods.mkd.system"),
        ({"seeds": []}, "paper_tables.seeds"),
    ],
)
def test_a_wrong_block_is_one_message(project, run, change, message):
    with pytest.raises(KedroCliError, match=message):
        run(pipeline="paper_tables", runtime_params={"paper_tables": change})
