"""How well anomaly maps rank pixels: all pixels of a stack, sorted once, and what is read off their order."""

from dataclasses import dataclass

import numpy as np

from kdad.errors import InputError
from kdad.metrics.pixel_values import Pictures, in_chunks, split_values


@dataclass(frozen=True)
class PixelRanking:
    """The map values of normal and of anomalous pixels, both ascending; `order` are the latter's places in the stack.

    That is among the stack's anomalous pixels, which `masks` mark.
    """

    normal: np.ndarray
    anomalous: np.ndarray
    order: np.ndarray
    masks: Pictures

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """Return quantiles of all pixels together, linear between two of them, as `numpy.quantile` does."""
        wanted = shares * (self.normal.size + self.anomalous.size - 1)
        below = np.floor(wanted).astype(np.int64)
        # Where anomalous pixels stand among all of them; what is not one of these places is a normal pixel's.
        places = np.arange(self.anomalous.size) + np.searchsorted(self.normal, self.anomalous)
        low, high = (self._at(place, places) for place in (below, np.ceil(wanted).astype(np.int64)))
        share, step = wanted - below, high - low
        return np.where(share < 0.5, low + step * share, high - step * (1 - share))

    def _at(self, wanted: np.ndarray, places: np.ndarray) -> np.ndarray:
        found = np.searchsorted(places, wanted)
        is_anomalous = (found < places.size) & (places[np.minimum(found, places.size - 1)] == wanted)
        normal = self.normal[np.minimum(wanted - found, self.normal.size - 1)]
        return np.where(is_anomalous, self.anomalous[np.minimum(found, places.size - 1)], normal)


def rank_pixels(masks: Pictures, maps: Pictures) -> PixelRanking:
    """Sort all pixels of `maps` by value; `masks` and `maps` are `(N, H, W)`, or N images each.

    Raises `InputError` as `split_values` does.
    """
    normal, anomalous = split_values(masks, maps)
    normal.sort()
    order = np.argsort(anomalous)
    return PixelRanking(normal, anomalous[order], order, masks)


def pixel_auroc(ranking: PixelRanking) -> float:
    """Return the area under the ROC curve over all pixels: P(anomalous > normal) + P(equal) / 2 (Mann-Whitney)."""
    normal, anomalous = ranking.normal, ranking.anomalous
    # Whole numbers of pairs, counted twice so that a tie's half is whole: exact.
    doubled = sum(
        int(np.searchsorted(normal, part, "left").sum() + np.searchsorted(normal, part, "right").sum())
        for part in in_chunks(anomalous)
    )
    return doubled / (2 * normal.size * anomalous.size)


def pixel_ap(ranking: PixelRanking) -> float:
    """Return the average precision over all pixels: sum over thresholds of (recall step) * precision."""
    normal, anomalous = ranking.normal, ranking.anomalous
    total = 0.0
    for part in in_chunks(anomalous):
        found = _count_from(anomalous, part)
        total += float((found / (found + _count_from(normal, part))).sum())
    return total / anomalous.size


def pixel_roc(ranking: PixelRanking, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates of at most `points` (3 or more) exact points of the ROC curve, for a plot.

    They are spaced evenly by either rate, run from (0, 0) to (1, 1) and never fall. Raises `InputError` for fewer
    points.
    """
    if points < 3:
        raise InputError(f"points is {points}; a thinned ROC curve needs 3 or more")
    normal, anomalous = ranking.normal, ranking.anomalous
    each = (points - 1) // 2
    chosen = [values[np.linspace(0, values.size - 1, each).astype(int)] for values in (normal, anomalous)]
    thresholds = np.unique(np.concatenate(chosen))[::-1]
    rates = (_count_from(values, thresholds) / values.size for values in (normal, anomalous))
    fpr, tpr = (np.concatenate([[0.0], rate]) for rate in rates)
    return fpr, tpr


def _count_from(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of the sorted `values` are at or above each threshold."""
    return values.size - np.searchsorted(values, thresholds, "left")
