"""What a run has to show: tables on the console, and its description in MLflow."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.table import Table

from kdad.datasets.place import file_of
from kdad.hooks.measurements import headline
from kdad.metrics.names import MAIN, labels
from kdad.parameters.strict import flatten
from kdad.reporting.console import console_table, frame_table, numbers_table
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, axis_link

_METRICS = labels(MAIN)
_CASE = {"axis": "axis", "variant": "variant"}

Show = Callable[[str, Any], RenderableType | None]
#: Of several results those that are read first.
_FIRST = (*MAIN, "false_positive_rate", "true_positive_rate", "threshold")
_PAGES = ("training_report", "page")
_SHEETS = ("heatmap_sheet", "contact_sheet")


def tables_of(pipeline: Any, catalog: Any) -> list[RenderableType]:
    """Return the tables of the results that a pipeline has made; those of its steps where it has no results."""
    made = sorted(name for name in pipeline.all_outputs() if catalog.exists(name))
    for kinds in (_RESULTS, _STEPS):
        shows = [(kinds[kind], name) for name in made if (kind := _kind(name, kinds)) is not None]
        found = [show(name, catalog.load(name)) for show, name in shows]
        tables: list[RenderableType] = [table for table in found if table is not None]
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


def _split(name: str, table: pd.DataFrame) -> Table:
    counted = table.groupby(["split", "kind"], sort=False).size().reset_index(name="images")
    return frame_table(_title(name), counted, {"split": "part", "kind": "kind", "images": "images"})


def _losses(name: str, history: pd.DataFrame) -> Table:
    last = history[history["epoch"] == history["epoch"].max()]
    return frame_table(f"{_title(name)}, last epoch", last, {"split": "images", "term": "loss", "value": "value"})


def _title(name: str) -> str:
    return name.replace(".", ": ").replace("_", " ")


#: By data set, or by the last part of the names of many: what a pipeline is run for.
_RESULTS: dict[str, Show] = {
    "metrics": _metrics,
    "summary": _summary,
    "soft_target.summary": lambda name, found: numbers_table("Soft targets", flatten(found)),
    "baselines.table": lambda name, table: frame_table(
        "Baselines", table, {"method": "method", **_METRICS, "fit_seconds": "fit, s"}
    ),
    "paper_tables.cells": _cells,
    "calibration.threshold": _calibrated,
    "export.report": lambda name, found: numbers_table("Exported", found),
}
#: Of steps that are run alone.
_STEPS: dict[str, Show] = {
    "split_table": _split,
    "feature_cost": lambda name, cost: numbers_table(_title(name), flatten(cost)),
    "loss_history": _losses,
    "teacher_loss_history": _losses,
    "threshold": lambda name, found: numbers_table(
        _title(name), {"threshold": found.value, "promise": found.statement()}
    ),
}


def describe_run(pipeline: Any, catalog: Any) -> str:
    """Return markdown: how axes are compared, a table of first results of each metrics file, sheets and pages."""
    links = [f"[{axis}]({axis_link('', EXPERIMENT_ID, RUN_ID, axis)})" for axis in compared_axes(pipeline, catalog)]
    parts = [f"Compare, by selecting all and then Compare: {', '.join(links)}"] if links else []
    for name in sorted(pipeline.all_outputs()):
        system, _, kind = name.rpartition(".")
        if kind == "metrics" and catalog.exists(name):
            found = headline(catalog.load(name))
            rows = [f"| {key} | {found[key]:.4g} |" for key in _FIRST if key in found]
            if rows:
                parts.append("\n".join([f"| {system} | |", "|---|---|", *rows]))
        elif kind in _SHEETS and catalog.exists(name):
            file = file_of(catalog.get(name)).name
            parts.append(f"![{file}](get-artifact?path={file}&run_uuid={RUN_ID})")
        elif kind in _PAGES and catalog.exists(name):
            file = file_of(catalog.get(name)).name
            parts.append(f"Page: [{file}](get-artifact?path={file}&run_uuid={RUN_ID})")
    return "\n\n".join(parts)


def compared_axes(pipeline: Any, catalog: Any) -> list[str]:
    """Return the axes whose cases a pipeline has run, in order."""
    made = [name for name in pipeline.all_outputs() if name.endswith(".results") and catalog.exists(name)]
    return sorted({result.axis for name in made for result in catalog.load(name)})
