"""Results of cases as tidy tables, and what a pixel bootstrap needs of their maps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdad.experiments.case import Case
from kdad.experiments.result import CaseResult
from kdad.metrics.pixel_ranking import check_finite, check_shapes

#: Costs that tables show beside metrics.
_COSTS = ("train_seconds", "parameters", "flops")
_CASE = ["axis", "variant", "category", "seed"]


def tidy(results: list[CaseResult]) -> pd.DataFrame:
    """Return one row for each metric of each finished case: axis, variant, category, seed, metric, value.

    Costs (train_seconds, parameters, flops) are metrics too; a metric that does not apply has no row.
    """
    rows = [
        [*result.place, metric, float(value)]
        for result in results
        if result.finished
        for metric, value in (result.metrics | {name: result.costs.get(name) for name in _COSTS}).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=[*_CASE, "metric", "value"])


def missing(results: list[CaseResult]) -> pd.DataFrame:
    """Return a row for each case that failed: axis, variant, category, seed, error."""
    rows = [[*result.place, result.error] for result in results if not result.finished]
    return pd.DataFrame(rows, columns=[*_CASE, "error"])


def made_by(results: list[CaseResult]) -> str:
    """Say which commits made the finished results, and when: reused ones may be older than the run that shows them."""
    finished = [result for result in results if result.finished]
    if not finished:
        return "no result"
    commits = sorted({result.commit or "unknown" for result in finished})
    days = sorted({result.made[:10] for result in finished})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}, {when}"


def in_plan_order(cases: Sequence[Case], results: list[CaseResult]) -> list[CaseResult]:
    """Return the result of each case."""
    by_place = {result.place: result for result in results}
    return [by_place[case.place] for case in cases]


def pixel_histograms(masks: np.ndarray, maps: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many normal and how many anomalous pixels of each image fall between `edges`, both `(N, edges + 1)`.

    `masks` and `maps` are `(N, H, W)`, masks non-zero where anomalous. Edges are quantiles of all pixels, ascending, so
    AUROC from the bins between them differs from the exact one by at most half the chance that a normal and an
    anomalous pixel share a bin. Raises `InputError` when shapes differ or a value is not finite.
    """
    check_shapes(masks, maps)
    for row, anomaly_map in enumerate(maps):
        check_finite(anomaly_map, row)
    bins, edges = len(edges) + 1, np.unique(edges)
    normal = np.zeros((len(maps), bins), dtype=np.int32)
    anomalous = np.zeros_like(normal)
    for row, (mask, anomaly_map) in enumerate(zip(masks.astype(bool, copy=False), maps, strict=True)):
        binned = np.searchsorted(edges, anomaly_map, side="right")
        anomalous[row] = np.bincount(binned[mask], minlength=bins)
        normal[row] = np.bincount(binned[~mask], minlength=bins)
    return normal, anomalous
