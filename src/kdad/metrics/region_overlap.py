"""Per-region overlap (PRO): how much of each defect is found, whatever its size (Bergmann et al. 2020, section 4)."""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used

from kdad.errors import InputError
from kdad.metrics.pixel_ranking import Pictures, PixelRanking

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class ProCurve:
    """Mean overlap `pro` of regions over false positive rate `fpr`: straight between points, from (0, 0) to max_fpr."""

    fpr: np.ndarray
    pro: np.ndarray

    @property
    def area(self) -> float:
        """The area under the curve divided by max_fpr, in [0, 1]."""
        return float(np.trapezoid(self.pro, self.fpr) / self.fpr[-1])

    def thinned(self, points: int = 500) -> "ProCurve":
        """Return the curve for a plot, with at most `points` of its points, both ends among them.

        They are spaced evenly along fpr / max_fpr + pro, so neither a steep nor a flat part goes short.
        """
        length = self.fpr / self.fpr[-1] + self.pro
        chosen = np.searchsorted(length, np.linspace(0, length[-1], points - 1))
        chosen = np.unique(np.append(chosen, length.size - 1))
        return ProCurve(self.fpr[chosen], self.pro[chosen])


def pro_curve(ranking: PixelRanking, max_fpr: float = 0.3, counted: np.ndarray | None = None) -> ProCurve:
    """Return the exact PRO curve up to `max_fpr` in (0, 1]: a threshold at every distinct value, map >= threshold.

    A region is an 8-connected set of mask pixels; overlap is averaged over all regions of the stack, the false positive
    rate is that of all normal pixels of the stack. Values that tie are found together. `counted` `(N,)` says of which
    images regions are averaged, of all without it; the mean over kinds, by their regions, is then the whole curve's.
    Raises `InputError` for another `max_fpr`.
    """
    if not 0 < max_fpr <= 1:
        raise InputError(f"max_fpr is {max_fpr}; it must be above 0 and at most 1")
    normal, inside = ranking.normal, ranking.anomalous
    # At the cutoff the false positive rate reaches max_fpr: no value below it can change the curve.
    cutoff = normal[normal.size - min(int(max_fpr * normal.size) + 1, normal.size)]
    highest = slice(np.searchsorted(inside, cutoff), None)
    weights, inside = _region_weights(ranking.masks, inside.size, counted)[ranking.order[highest]], inside[highest]
    if counted is not None:  # pixels of the others change nothing; points that are equal would be dropped together
        weights, inside = weights[weights > 0], inside[weights > 0]
    inside, found = inside[::-1], np.minimum(np.cumsum(weights[::-1]), 1.0)
    last = np.flatnonzero(np.diff(inside, append=-np.inf))  # the end of each run of ties
    thresholds, found = inside[last], found[last]
    # A distinct value inside a region is a straight segment: from what lies above it to what lies at or above it.
    above, reached = (normal.size - np.searchsorted(normal, thresholds, side) for side in ("right", "left"))
    at_cutoff = normal.size - np.searchsorted(normal, cutoff)
    fpr = np.concatenate([[0], np.stack([above, reached], axis=1).ravel(), [at_cutoff]]) / normal.size
    pro = np.repeat(np.append(0.0, found), 2)
    return _end_at(max_fpr, fpr, pro)


def _region_weights(masks: Pictures, pixel_count: int, counted: np.ndarray | None) -> np.ndarray:
    """Return for each mask pixel, in the order of the stack, its share of the mean overlap: 1 / (area * regions)."""
    counted = np.ones(len(masks), dtype=bool) if counted is None else counted
    weights = np.empty(pixel_count)
    end = region_count = 0
    for mask, counts in zip(masks, counted, strict=True):
        if not counts:
            start, end = end, end + np.count_nonzero(mask)
            weights[start:end] = 0
            continue
        labels, found = scipy.ndimage.label(mask, _EIGHT_NEIGHBOURS)
        regions = labels[labels > 0]
        weights[end : end + regions.size] = 1 / np.bincount(regions, minlength=1)[regions]
        end, region_count = end + regions.size, region_count + found
    weights /= region_count
    return weights


def _end_at(max_fpr: float, fpr: np.ndarray, pro: np.ndarray) -> ProCurve:
    """Cut the curve at `max_fpr`, and drop points in the middle of its vertical and level runs."""
    stop = np.searchsorted(fpr, max_fpr, "right")
    at_end = np.interp(max_fpr, fpr, pro)
    fpr, pro = np.append(fpr[:stop], max_fpr), np.append(pro[:stop], at_end)
    kept = np.ones(fpr.size, dtype=bool)
    kept[1:-1] = (fpr[:-2] != fpr[2:]) & (pro[:-2] != pro[2:])
    return ProCurve(fpr[kept], pro[kept])
