"""What a run has to show: results as MLflow names them, tables on the console, and its description."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.table import Table

from kdad.datasets.place import file_of
from kdad.images.splits import PARTS, Split
from kdad.metrics.names import MAIN, METRICS, labels
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import flatten
from kdad.reporting.console import console_table, frame_table, numbers_table
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, axis_link

#: What `metrics.json` says beside results: whose they are, and what they cost.
_NO_RESULTS = ("seed", "image_size", "seconds", "peak_memory_gb", "features_reused", "fitting_reused")
#: What is known without measuring, and would stand among the results' charts.
_FACTS = (
    *("parameters", "flops", "kept_megabytes", "test_normal", "test_anomalous", "normal_images", "anomalous_images"),
    "test_normal_groups",
    *("anomalous_images_without_mask", "anomalous_images_with_empty_mask"),
)


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a run's results: metrics, rates, threshold.

    Of several localisation methods the first has the plain names, and others follow by ``<metric>.<method>``; those of
    each category of a united set, and their mean, by ``<metric>.<category>``.
    Kinds of defects stand as ``by_kind.<kind>.<metric>``.
    """
    values = {name: value for name, value in metrics.items() if name not in (*_NO_RESULTS, *_FACTS)}
    kinds = {
        _taken(kind): {name: value for name, value in found.items() if name != "images"}
        for kind, found in (values.pop("by_kind", None) or {}).items()
    }
    threshold, methods = values.pop("threshold", None), values.pop("localisation", None) or {}
    categories = values.pop("categories", None) or {}
    found = _numbers(values)
    if isinstance(threshold, dict):
        threshold = threshold.get("value")
    if threshold is not None:
        found["threshold"] = float(threshold)
    for category, own in categories.items():
        found |= {f"{name}.{_taken(category)}": value for name, value in _numbers(own).items() if name in METRICS}
    found |= _numbers(kinds, "by_kind.")
    for method in list(methods)[1:]:
        found |= {f"{name}.{method}": value for name, value in _numbers(methods[method]).items()}
    return found


def facts_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what of a run's results is a fact: counts of images, and what a network takes."""
    known = {name: metrics[name] for name in _FACTS if metrics.get(name) is not None}
    return {name: int(value) if float(value).is_integer() else value for name, value in known.items()}


def loss_series(metric: str, rows: list[dict[str, Any]]) -> list[tuple[str, float, int, int]]:
    """Return rows of a loss history (epoch, split, term, value) as `TrackedRun.series` takes them: name, value, time,
    step. `metric` makes the names of split and term, as ``cloner.{split}.{term}``.
    """
    now = int(time.time() * 1000)
    return [
        (metric.format(split=row["split"], term=row["term"]), float(row["value"]), now, int(row["epoch"]))
        for row in rows
    ]


def data_inputs(table: pd.DataFrame, dataset: DatasetParameters) -> list[dict[str, Any]]:
    """Return the images of each part of a split: name, digest, counts and context, as `TrackedRun.inputs` takes them.

    A plan's table has a column ``category``, as it holds the splits of several.
    """
    if "category" not in table:
        return _of_category(table, dataset, dataset.category_name)
    parts = [_of_category(part, dataset, str(category)) for category, part in table.groupby("category", sort=False)]
    return [inputs for part in parts for inputs in part]


def _of_category(table: pd.DataFrame, dataset: DatasetParameters, category: str) -> list[dict[str, Any]]:
    split = Split(table)
    found = []
    for part, context in PARTS.items():
        rows = table.iloc[split.rows(part)]
        if len(rows) == 0:
            continue
        counts = {"images": len(rows), **{str(kind): int(count) for kind, count in rows["kind"].value_counts().items()}}
        digest = Split(rows).images_digest
        source = {"dataset": dataset.name, "category": category, "root": dataset.origin or ""}
        found.append(
            {
                "context": context,
                "dataset": {
                    "name": f"{dataset.name}/{category}",
                    "digest": digest,
                    "source_type": "kdad",
                    "source": json.dumps(source),
                    "profile": json.dumps(counts),
                },
            }
        )
    return found


def _taken(name: str) -> str:
    """Return a name as MLflow takes it in that of a metric."""
    return re.sub(r"[^\w./ :-]", "_", name)


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


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
