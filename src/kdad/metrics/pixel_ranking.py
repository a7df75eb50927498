"""How well anomaly maps rank pixels: all pixels of a stack, sorted once, and what is read off their order.

Per-region overlap (PRO) says how much of each defect is found, whatever its size (Bergmann et al. 2020, section 4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used
import torch

from kdad.errors import InputError
from kdad.scoring.smoothing import gaussian_filter, grey_opening
from kdad.storage.disk_space import zeros

#: A stack `(N, H, W)`, or N images `(H, W)` of sizes of their own.
Pictures = np.ndarray | Sequence[np.ndarray]
_CHUNK = 1 << 20  # values looked at at once
_POINTS = 500  # of a curve that is drawn


def split_values(
    masks: Pictures, maps: Pictures, regions: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the map values of normal and of anomalous pixels, each flat and in the order of the stack.

    `masks` are non-zero where anomalous; of `maps`, of the same sizes, larger is more anomalous; it may be a memmap.
    Of each image its region `(H, W)` counts alone, where there are `regions`; masks mark nothing outside. Raises
    `InputError` when shapes differ, a value is not finite, or all pixels are of one kind.
    """
    check_shapes(masks, maps)
    anomalous_count = sum(int(np.count_nonzero(mask)) for mask in masks)
    pixels = sum(mask.size for mask in masks) if regions is None else sum(int(region.sum()) for region in regions)
    if anomalous_count in (0, pixels):
        kind = "anomalous" if anomalous_count == 0 else "normal"
        raise InputError(f"the masks leave no {kind} pixel; give masks with pixels of both kinds")
    dtype = maps.dtype if isinstance(maps, np.ndarray) else np.float32
    anomalous, normal = zeros([anomalous_count], dtype), zeros([pixels - anomalous_count], dtype)
    # Image by image into arrays of the final size, so that nothing as large as the stack is held twice.
    normal_end = anomalous_end = 0
    for position, (marked, anomaly_map) in enumerate(zip(masks, maps, strict=True)):
        check_finite(anomaly_map, position)
        mask = marked.astype(bool, copy=False)
        if mask.shape != anomaly_map.shape:
            raise InputError(f"mask {position} has shape {mask.shape} and its map {anomaly_map.shape}; make them equal")
        inside, outside = anomaly_map[mask], anomaly_map[~mask if regions is None else ~mask & regions[position]]
        anomalous[anomalous_end : anomalous_end + inside.size] = inside
        normal[normal_end : normal_end + outside.size] = outside
        anomalous_end, normal_end = anomalous_end + inside.size, normal_end + outside.size
    return normal, anomalous


def in_chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield flat values in parts, each small enough for what is made of it to be held in memory."""
    return (values[start : start + _CHUNK] for start in range(0, values.size, _CHUNK))


def check_shapes(masks: Pictures, maps: Pictures) -> None:
    """Raise `InputError` unless both are `(N, H, W)` with the same sizes, or as many images."""
    if not isinstance(masks, np.ndarray) or not isinstance(maps, np.ndarray):
        if len(masks) != len(maps):
            raise InputError(f"there are {len(masks)} masks and {len(maps)} maps; give as many of both")
    elif masks.ndim != 3 or masks.shape != maps.shape:
        raise InputError(
            f"masks have shape {masks.shape} and maps {maps.shape}; both must be (images, height, width) and the same"
        )


def check_finite(anomaly_map: np.ndarray, position: int) -> None:
    """Raise `InputError` that names the map's position in the stack when a value is not finite."""
    if not np.isfinite(anomaly_map).all():
        raise InputError(f"map {position} holds values that are not finite; make all of them finite numbers")


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


def rank_pixels(masks: Pictures, maps: Pictures, regions: Sequence[np.ndarray] | None = None) -> PixelRanking:
    """Sort all pixels of `maps`, or of their `regions`, by value; `masks` and `maps` are `(N, H, W)`, or N images each.

    Raises `InputError` as `split_values` does.
    """
    normal, anomalous = split_values(masks, maps, regions)
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


def pixel_roc(ranking: PixelRanking) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates of at most 500 exact points of the ROC curve, for a plot.

    They are spaced evenly by either rate, run from (0, 0) to (1, 1) and never fall.
    """
    normal, anomalous = ranking.normal, ranking.anomalous
    each = (_POINTS - 1) // 2
    chosen = [values[np.linspace(0, values.size - 1, each).astype(int)] for values in (normal, anomalous)]
    thresholds = np.unique(np.concatenate(chosen))[::-1]
    rates = (_count_from(values, thresholds) / values.size for values in (normal, anomalous))
    fpr, tpr = (np.concatenate([[0.0], rate]) for rate in rates)
    return fpr, tpr


def _count_from(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many of the sorted `values` are at or above each threshold."""
    return values.size - np.searchsorted(values, thresholds, "left")


def mkd_protocol_auroc(
    masks: np.ndarray,
    raw_maps: np.ndarray,
    gaussian_sigma: float,
    opening_size: int = 3,
    regions: Sequence[np.ndarray] | None = None,
) -> float:
    """Return pixel AUROC over anomalous images alone, each map clipped, scaled to [0, 1], filtered and opened.

    `masks` and `raw_maps` (before any filter) are `(N, H, W)`; each map is clipped at its own 99th percentile.
    `gaussian_sigma` is in pixels, `opening_size` the diameter of the elliptic element; 0 leaves a step out. The
    published code opens the maps thresholded at 1,000 values; a flat grey opening commutes with thresholds, so one
    opening and the exact ROC curve give the limit of that. Raises `InputError` as `rank_pixels` does.
    """
    check_shapes(masks, raw_maps)
    anomalous = np.flatnonzero(masks.any(axis=(1, 2)))
    scaled = np.empty((anomalous.size, *raw_maps.shape[1:]), dtype=np.float32)
    for position, row in enumerate(anomalous):
        check_finite(raw_maps[row], row)
        stretched = torch.from_numpy(_scale(raw_maps[row], None if regions is None else regions[row]))[None]
        scaled[position] = grey_opening(gaussian_filter(stretched, gaussian_sigma), opening_size)[0].numpy()
    counted = None if regions is None else [regions[row] for row in anomalous]
    return pixel_auroc(rank_pixels(masks[anomalous], scaled, counted))


def _scale(anomaly_map: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Clip a map `(H, W)` at its 99th percentile and stretch it to [0, 1]; a constant map becomes 0."""
    counted = anomaly_map if region is None else anomaly_map[region]
    low, high = counted.min(), np.percentile(counted, 99)
    if not high > low:
        return np.zeros_like(anomaly_map, dtype=np.float32)
    return ((np.clip(anomaly_map, low, high) - low) / (high - low)).astype(np.float32)


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
    """
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
