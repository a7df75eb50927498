"""Results of cases as tidy tables, and what a pixel bootstrap needs of their maps."""

from typing import Any

import numpy as np
import pandas as pd

from kdad.errors import InputError
from kdad.metrics.pixel_values import check_finite, check_shapes

_COSTS = ("train_seconds", "parameters", "flops")
_CASE = ["axis", "variant", "category", "seed"]


def tidy(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each metric of each finished case: axis, variant, category, seed, metric, value.

    Costs (train_seconds, parameters, flops) are metrics too; a metric that does not apply has no row.
    """
    rows = [
        {**{name: result[name] for name in _CASE}, "metric": metric, "value": float(value)}
        for result in results
        if result["status"] == "finished"
        for metric, value in (result["metrics"] | {name: result[name] for name in _COSTS}).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=[*_CASE, "metric", "value"])


def missing(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a row for each case that failed: axis, variant, category, seed, error."""
    rows = [{name: result[name] for name in [*_CASE, "error"]} for result in results if result["status"] == "failed"]
    return pd.DataFrame(rows, columns=[*_CASE, "error"])


def pixel_histograms(masks: np.ndarray, maps: np.ndarray, bins: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Return how many normal and how many anomalous pixels of each image fall into each bin, both `(N, bins)`.

    `masks` and `maps` are `(N, H, W)`, masks non-zero where anomalous. Bins ascend and hold about equally many pixels
    of the stack, so AUROC from them differs from the exact one by at most half the chance that a normal and an
    anomalous pixel share a bin. Raises `InputError` when shapes differ, a value is not finite, or `bins` is below 2.
    """
    check_shapes(masks, maps)
    if bins < 2:
        raise InputError(f"bins is {bins}; a histogram that ranks pixels needs 2 or more")
    for row, anomaly_map in enumerate(maps):
        check_finite(anomaly_map, row)
    step = max(maps.size // 1_000_000, 1)
    edges = np.unique(np.quantile(maps.reshape(-1)[::step], np.linspace(0, 1, bins + 1)[1:-1]))
    normal = np.zeros((len(maps), bins), dtype=np.int32)
    anomalous = np.zeros_like(normal)
    for row, (mask, anomaly_map) in enumerate(zip(masks.astype(bool, copy=False), maps, strict=True)):
        binned = np.searchsorted(edges, anomaly_map, side="right")
        anomalous[row] = np.bincount(binned[mask], minlength=bins)
        normal[row] = np.bincount(binned[~mask], minlength=bins)
    return normal, anomalous
