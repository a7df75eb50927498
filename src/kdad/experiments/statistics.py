"""Which differences between variants are real: the same test images, resampled for both."""

from collections.abc import Sequence

import numpy as np


def summarise_difference(observed: float, resampled: np.ndarray) -> tuple[float, float, float, float]:
    """Return the difference, its 95 % percentile interval, and the two-sided p-value that there is none.

    That is twice the smaller share of resamples beyond 0: whether other test images would show the difference, not
    whether other trainings would.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    beyond = min((resampled <= 0).mean(), (resampled >= 0).mean())
    smallest = 1 / (len(resampled) + 1)
    return float(observed), float(low), float(high), float(min(max(2 * beyond, smallest), 1.0))


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
