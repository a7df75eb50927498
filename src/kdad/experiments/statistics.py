"""Which differences between variants are real: the same test images, resampled for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdad.metrics.ranking import draw_groups

#: Counts held at once, `resamples x max(images, bins)`; bounds the memory of a bootstrap to some tens of MB.
_COUNTS = 1 << 20


@dataclass(frozen=True)
class Difference:
    """A difference of AUROC, its 95 % percentile interval, and the two-sided p-value that there is none."""

    mean: float
    low: float
    high: float
    p_value: float


def draw_weights(
    labels: np.ndarray, resamples: int, generator: np.random.Generator, groups: list[str] | None = None
) -> np.ndarray:
    """Return `(resamples, N)`: how often each image is drawn, each label resampled to its own count.

    With `groups`, one an image, whole groups are drawn.
    """
    if groups:
        return draw_groups(labels, np.asarray(groups), resamples, generator)
    weights = np.zeros((resamples, labels.size), dtype=np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = generator.multinomial(members.size, np.full(members.size, 1 / members.size), resamples)
    return weights


def image_aurocs(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return image AUROC under each row of `weights` `(R, N)`, for `labels` and `scores` `(N,)`; ties count half."""
    ranks = np.unique(scores, return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    areas = []
    for block in _blocks(weights, labels.size):
        by_rank = [np.add.reduceat((block * (labels == label))[:, order], starts, axis=1) for label in (0, 1)]
        areas.append(_areas(*by_rank))
    return np.concatenate(areas)


def pixel_aurocs(normal: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return pixel AUROC under each row of `weights` `(R, N)` from histograms `(N, bins)`; a shared bin counts half."""
    # Matrix products of floats, not of integers, have a fast routine; counts below 2^53 stay whole.
    histograms = [counts.astype(float) for counts in (normal, anomalous)]
    blocks = _blocks(weights, max(normal.shape))
    return np.concatenate([_areas(*(block.astype(float) @ counts for counts in histograms)) for block in blocks])


def summarise_difference(observed: float, resampled: np.ndarray) -> Difference:
    """Return the difference with its percentile interval; p is twice the smaller share of resamples beyond 0.

    It says whether other test images would show the difference, not whether other trainings would.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    beyond = min((resampled <= 0).mean(), (resampled >= 0).mean())
    smallest = 1 / (len(resampled) + 1)
    return Difference(float(observed), float(low), float(high), float(min(max(2 * beyond, smallest), 1.0)))


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the exact two-sided p-value that two deciders are wrong equally often (McNemar 1947).

    `first_alone` and `second_alone` count the cases that only one of them decides rightly: under the hypothesis each is
    the first's with a chance of one half. Without any such case it is 1.
    """
    from scipy.stats import binomtest  # late: it takes a second

    discordant = first_alone + second_alone
    return float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number (Holm 1979): the chance of any false finding stays below each."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result


def _blocks(weights: np.ndarray, width: int) -> list[np.ndarray]:
    """Split the rows of `weights` so that a block of `width` columns holds about `_COUNTS` numbers."""
    return np.array_split(weights, max(len(weights) * width // _COUNTS, 1))


def _areas(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Return AUROC from counts `(R, bins)` in ascending bins."""
    below = np.cumsum(normal, axis=1) - normal / 2
    return (below * anomalous).sum(1) / (normal.sum(1) * anomalous.sum(1)).astype(float)
