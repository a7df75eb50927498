"""What a run has to show on the console: a table for each result that a pipeline makes."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.table import Table

from kdad.parameters.strict import flatten
from kdad.reporting.console_tables import frame_table, numbers_table
from kdad.reporting.metrics_table import console_table

_METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pro_auc": "PRO"}
_CASE = {"axis": "axis", "variant": "variant"}


def tables_of(pipeline: Any, catalog: Any) -> list[RenderableType]:
    """Return the tables of the results that a pipeline has made; those of its steps where it has no results."""
    made = sorted(name for name in pipeline.all_outputs() if catalog.exists(name))
    for kinds in (_RESULTS, _STEPS):
        found = [kinds[_kind(name, kinds)](name, catalog.load(name)) for name in made if _kind(name, kinds) is not None]
        tables = [table for table in found if table is not None]
        if tables:
            return tables
    return []


def _kind(name: str, kinds: dict[str, Any]) -> str | None:
    """Return by what name a data set is known: its own, or that of every system's or plan's."""
    return next((kind for kind in (name, name.rpartition(".")[2]) if kind in kinds), None)


def _metrics(name: str, metrics: dict[str, Any]) -> RenderableType | None:
    return console_table(metrics) if "localisation" in metrics else numbers_table(_title(name), flatten(metrics))


def _summary(name: str, summary: pd.DataFrame) -> Table:
    """Return a row for each variant, metrics averaged over categories and seeds."""
    rows = summary[summary["metric"].isin(_METRICS)]
    wide = rows.pivot_table(index=["axis", "variant"], columns="metric", values="value", sort=False).reset_index()
    return frame_table(_title(name), wide, {**_CASE, **_METRICS})


def _baselines(name: str, table: pd.DataFrame) -> Table:
    return frame_table("Baselines", table, {"method": "method", **_METRICS, "fit_seconds": "fit, s"})


def _cells(name: str, cells: pd.DataFrame) -> Table:
    """Return what is ours of the papers' cells, of several categories their means."""
    ours = cells[cells["ours"].notna()]
    means = ours[ours["category"] == "mean"]
    headings = ("table", "category", "method", "paper", "ours", "sd", "difference")
    return frame_table("The papers' tables", means if len(means) else ours, {heading: heading for heading in headings})


def _calibrated(name: str, found: dict[str, Any]) -> Table:
    before, threshold = found["before"] or {}, found["threshold"]
    rows = {
        "rule": threshold["rule"],
        "threshold": threshold["value"],
        "before": before.get("value"),
        "promise": found["statement"],
    }
    return numbers_table("Threshold", rows)


def _exported(name: str, found: dict[str, Any]) -> Table:
    return numbers_table("Exported", found)


def _split(name: str, table: pd.DataFrame) -> Table:
    counted = table.groupby(["split", "kind"], sort=False).size().reset_index(name="images")
    return frame_table(_title(name), counted, {"split": "part", "kind": "kind", "images": "images"})


def _losses(name: str, history: pd.DataFrame) -> Table:
    last = history[history["epoch"] == history["epoch"].max()]
    return frame_table(f"{_title(name)}, last epoch", last, {"split": "images", "term": "loss", "value": "value"})


def _threshold(name: str, threshold: Any) -> Table:
    return numbers_table(_title(name), {"threshold": threshold.value, "promise": threshold.statement()})


def _cost(name: str, cost: dict[str, Any]) -> Table:
    return numbers_table(_title(name), flatten(cost))


def _title(name: str) -> str:
    return name.replace(".", ": ").replace("_", " ")


Show = Callable[[str, Any], Table | None]
#: By data set, or by the last part of the names of many: what a pipeline is run for.
_RESULTS: dict[str, Show] = {
    "metrics": _metrics,
    "summary": _summary,
    "soft_target.summary": lambda name, found: numbers_table("Soft targets", flatten(found)),
    "baselines.table": _baselines,
    "paper_tables.cells": _cells,
    "calibration.threshold": _calibrated,
    "export.report": _exported,
}
#: Of steps that are run alone.
_STEPS: dict[str, Show] = {
    "split_table": _split,
    "feature_cost": _cost,
    "loss_history": _losses,
    "teacher_loss_history": _losses,
    "threshold": _threshold,
}
