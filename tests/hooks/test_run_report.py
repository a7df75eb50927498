"""What stands on the console when a run has ended."""

from types import SimpleNamespace

import pandas as pd
import pytest

from kdad.errors import IncompleteError, InputError
from kdad.hooks.run_report import RunReportHook
from kdad.hooks.run_results import headline, tables_of
from kdad.hooks.run_tracking import CurrentRun
from kdad.tracking.destination import Destination

SUMMARY = pd.DataFrame(
    [
        ["loss", "both", "brick", 0, "image_auroc", 0.9],
        ["loss", "both", "brick", 1, "image_auroc", 0.7],
        ["loss", "value", "brick", 0, "image_auroc", 0.5],
        ["loss", "both", "brick", 0, "train_seconds", 3.0],
    ],
    columns=["axis", "variant", "category", "seed", "metric", "value"],
)
CASES = [SimpleNamespace(axis="loss") for _ in range(2)]


class Catalog:
    """Data by name, which lies in files of those names."""

    def __init__(self, **data):
        self.data = {name.replace("__", "."): value for name, value in data.items()}

    def exists(self, name):
        return name in self.data

    def load(self, name):
        return self.data[name]

    def get(self, name):
        return SimpleNamespace(_filepath=f"/results/{name}.file")


def pipeline_of(catalog: Catalog, *more: str) -> SimpleNamespace:
    return SimpleNamespace(all_outputs=lambda: {*catalog.data, *more})


def shown(catalog: Catalog, capsys, current=None, **run_params) -> str:
    hook = RunReportHook(current or CurrentRun())
    hook.after_pipeline_run(run_params, {"made": 1}, pipeline_of(catalog), catalog)
    return capsys.readouterr().out


@pytest.fixture
def tracked():
    """A run that MLflow has."""
    run = SimpleNamespace(experiment="7", identity=lambda: "abc")
    return lambda uri: CurrentRun(run=run, destination=Destination(uri, "kdad", None))


def test_an_ablation_ends_with_means_over_seeds_its_page_and_where_axes_are_compared(capsys, tracked):
    catalog = Catalog(mkd_ablation__summary=SUMMARY, mkd_ablation__page="<html>", mkd_ablation__mkd__results=CASES)
    said = shown(catalog, capsys, tracked("sqlite:///mlflow.db"))
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert {"mkd ablation: summary", "loss both 0.8", "loss value 0.5"} <= set(lines)
    assert "train" not in said
    assert "Page: /results/mkd_ablation.page.file" in lines
    (compare,) = [line for line in lines if line.startswith("Compare loss: ")]
    assert "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning&searchFilter=" in compare
    (run,) = [line for line in lines if line.startswith("MLflow run: ")]
    assert "http://127.0.0.1:5000/#/experiments/7/runs/abc?workflowType=machine_learning" in run
    assert run.endswith("(`make mlflow` opens it)")


def test_the_page_of_a_server_is_opened_there(capsys, tracked):
    said = shown(Catalog(page="<html>"), capsys, tracked("https://mlflow.example/"))
    assert "MLflow run: https://mlflow.example/#/experiments/7/runs/abc?workflowType=machine_learning\n" in said
    assert "make mlflow" not in said


def test_without_mlflow_the_rest_is_said(capsys):
    said = shown(Catalog(mkd__heatmap_sheet=1, mkd__detector=1, stfpm__detector=1), capsys)
    assert said.splitlines() == [
        "Detector: /results/mkd.detector.file",
        "Heat maps: /results/mkd.heatmap_sheet.file",
        "Detector, stfpm: /results/stfpm.detector.file",
        "MLflow: not logged",
    ]


def test_nothing_to_do_is_said_and_no_old_table_shown(capsys):
    catalog = Catalog(mkd_ablation__summary=SUMMARY)
    hook = RunReportHook(CurrentRun())
    hook.after_pipeline_run({"only_missing_outputs": True}, {}, pipeline_of(catalog), catalog)
    assert capsys.readouterr().out == "Nothing to do: every output is there already.\n"


@pytest.mark.parametrize(("error", "is_shown"), [(IncompleteError("2 missing"), True), (InputError("no file"), False)])
def test_what_there_is_is_shown_when_a_part_is_missing(capsys, error, is_shown):
    catalog = Catalog(mkd_ablation__summary=SUMMARY)
    RunReportHook(CurrentRun()).on_pipeline_error(error, pipeline_of(catalog), catalog)
    assert ("mkd ablation: summary" in capsys.readouterr().out) is is_shown


HISTORY = pd.DataFrame({"epoch": [0, 1], "split": ["training"] * 2, "term": ["total"] * 2, "value": [2.0, 1.0]})
SPLIT = pd.DataFrame({"split": ["train", "train", "test"], "kind": ["good", "good", "hole"]})
CELLS = pd.DataFrame(
    [["us_pro", "brick", "mkd", 0.9, 0.8], ["us_pro", "mean", "mkd", 0.7, 0.6], ["us_pro", "mean", "other", 0.5, None]],
    columns=["table", "category", "method", "paper", "ours"],
)
BASELINES = pd.DataFrame({"method": ["knn"], "image_auroc": [0.75], "pixel_auroc": [None], "fit_seconds": [1.5]})
THRESHOLD = {"before": None, "threshold": {"rule": "f1", "value": 0.25}, "statement": "3 % above"}


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ({"split_table": SPLIT}, [["train", "good", "2"], ["test", "hole", "1"]]),
        ({"mkd_ablation__split_table": SPLIT, "mkd_ablation__summary": SUMMARY}, [["loss", "both", "0.8"]]),
        ({"mkd__loss_history": HISTORY}, [["training", "total", "1"]]),
        ({"mkd__feature_cost": {"seconds": 1.25, "reused": True}}, [["seconds", "1.25"], ["reused", "yes"]]),
        ({"paper_tables__cells": CELLS}, [["us_pro", "mean", "mkd", "0.7", "0.6"]]),
        ({"baselines__table": BASELINES}, [["knn", "0.75", "1.5"]]),
        ({"calibration__threshold": THRESHOLD}, [["rule", "f1"], ["threshold", "0.25"]]),
        ({"soft_target__summary": {"anomaly": {"image_auroc": 0.5}}}, [["anomaly.image auroc", "0.5000"]]),
        ({"inference__metrics": {"images": 3, "anomalous": 1}}, [["images", "3"], ["anomalous", "1"]]),
    ],
)
def test_every_pipeline_and_every_step_has_a_table(data, rows):
    catalog = Catalog(**data)
    (table,) = tables_of(pipeline_of(catalog, "not.there"), catalog)
    cells = [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]
    assert [row for row in cells if row in rows] == rows


def test_a_pipeline_that_makes_nothing_to_show_has_no_table():
    catalog = Catalog(teacher_patches=pd.DataFrame())
    assert tables_of(pipeline_of(catalog), catalog) == []


def test_kinds_have_names_that_mlflow_takes_and_no_counts_of_images():
    kinds = {"dent+höle/2": {"images": 3, "found": 2, "image_auroc": 0.75, "pro_auc": None}}
    assert headline({"image_auroc": 0.5, "by_kind": kinds, "seed": 1}) == {
        "image_auroc": 0.5,
        "by_kind.dent_höle/2.found": 2.0,
        "by_kind.dent_höle/2.image_auroc": 0.75,
    }
