"""How well anomaly maps rank pixels: exact ROC and precision over every pixel of a stack."""

import numpy as np

from kdad.errors import InputError
from kdad.metrics.pixel_values import Pictures, in_chunks, split_values


def pixel_auroc(masks: Pictures, maps: Pictures) -> float:
    """Return the area under the ROC curve over all pixels: P(anomalous > normal) + P(equal) / 2 (Mann-Whitney).

    `masks` and `maps` are `(N, H, W)`, or N images each; raises `InputError` as `split_values` does.
    """
    normal, anomalous = _sorted_values(masks, maps)
    # Whole numbers of pairs, counted twice so that a tie's half is whole: exact.
    doubled = sum(
        int(np.searchsorted(normal, part, "left").sum() + np.searchsorted(normal, part, "right").sum())
        for part in in_chunks(anomalous)
    )
    return doubled / (2 * normal.size * anomalous.size)


def pixel_ap(masks: Pictures, maps: Pictures) -> float:
    """Return the average precision over all pixels: sum over thresholds of (recall step) * precision.

    `masks` and `maps` are `(N, H, W)`, or N images each; raises `InputError` as `split_values` does.
    """
    normal, anomalous = _sorted_values(masks, maps)
    total = 0.0
    for part in in_chunks(anomalous):
        found = _count_from(anomalous, part)
        total += float((found / (found + _count_from(normal, part))).sum())
    return total / anomalous.size


def pixel_roc(masks: Pictures, maps: Pictures, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates of at most `points` (3 or more) exact points of the ROC curve, for a plot.

    They are spaced evenly by either rate, run from (0, 0) to (1, 1) and never fall. Raises `InputError` as
    `split_values` does.
    """
    if points < 3:
        raise InputError(f"points is {points}; a thinned ROC curve needs 3 or more")
    normal, anomalous = _sorted_values(masks, maps)
    each = (points - 1) // 2
    chosen = [values[np.linspace(0, values.size - 1, each).astype(int)] for values in (normal, anomalous)]
    thresholds = np.unique(np.concatenate(chosen))[::-1]
    rates = (_count_from(values, thresholds) / values.size for values in (normal, anomalous))
    fpr, tpr = (np.concatenate([[0.0], rate]) for rate in rates)
    return fpr, tpr


def _sorted_values(masks: Pictures, maps: Pictures) -> tuple[np.ndarray, np.ndarray]:
    normal, anomalous = split_values(masks, maps)
    normal.sort()
    anomalous.sort()
    return normal, anomalous


def _count_from(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of the sorted `values` are at or above each threshold."""
    return values.size - np.searchsorted(values, thresholds, "left")
