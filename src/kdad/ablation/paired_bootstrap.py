"""Which differences between variants are real: the same test images, resampled for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

#: Test images by category: label and, for each seed, what the variant says of each image.
Stack = np.ndarray
_BLOCK = 256


@dataclass(frozen=True)
class Difference:
    """A difference of AUROC, its 95 % percentile interval, and the two-sided p-value that there is none."""

    mean: float
    low: float
    high: float
    p_value: float


def draw_weights(labels: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return `(resamples, N)`: how often each image is drawn, each label resampled to its own count."""
    weights = np.zeros((resamples, labels.size), dtype=np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = generator.multinomial(members.size, np.full(members.size, 1 / members.size), resamples)
    return weights


def image_aurocs(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return image AUROC under each row of `weights` `(R, N)`, for `labels` and `scores` `(N,)`; ties count half."""
    ranks = rankdata(scores, method="dense").astype(int) - 1
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    by_rank = [np.add.reduceat((weights * (labels == label))[:, order], starts, axis=1) for label in (0, 1)]
    return _areas(*by_rank)


def pixel_aurocs(normal: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return pixel AUROC under each row of `weights` `(R, N)` from histograms `(N, bins)`; a shared bin counts half."""
    parts = [
        _areas(block @ normal.astype(float), block @ anomalous.astype(float))
        for block in np.array_split(weights.astype(float), max(len(weights) // _BLOCK, 1))
    ]
    return np.concatenate(parts)


def summarise_difference(observed: float, resampled: np.ndarray) -> Difference:
    """Return the difference with its percentile interval; p is twice the smaller share of resamples beyond 0."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    beyond = min((resampled <= 0).mean(), (resampled >= 0).mean())
    smallest = 1 / (len(resampled) + 1)
    return Difference(float(observed), float(low), float(high), float(min(max(2 * beyond, smallest), 1.0)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number (Holm 1979): the chance of any false finding stays below each."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result


def _areas(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Return AUROC from counts `(R, bins)` in ascending bins."""
    below = np.cumsum(normal, axis=1) - normal / 2
    return (below * anomalous).sum(1) / (normal.sum(1) * anomalous.sum(1)).astype(float)
