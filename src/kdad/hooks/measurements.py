"""What MLflow holds of a run: results as metrics, one name each, the same in all pipelines, losses, and data sets."""

import json
import re
import time
from typing import Any

import pandas as pd

from kdad.images.splits import PARTS, Split
from kdad.metrics.names import METRICS
from kdad.parameters.dataset import DatasetParameters

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
