"""A decision threshold from held-out normal scores alone."""

import math
from dataclasses import dataclass

import numpy as np

from kdad.errors import InputError


@dataclass(frozen=True)
class Threshold:
    """A threshold: an image is anomalous when its score is greater than `value`.

    `expected_false_positive_rate` is the chance, in (0, 1), that a new normal image exceeds it, less when scores tie.
    """

    value: float
    expected_false_positive_rate: float
    sample_count: int


def quantile_threshold(scores: np.ndarray, quantile: float) -> Threshold:
    """Return the k-th smallest of n held-out normal scores, k = ceil((n + 1) * quantile), at most n.

    A new normal score exchangeable with these exceeds it with chance (n + 1 - k) / (n + 1), at most 1 - quantile unless
    n is too small for that (split conformal prediction, Vovk et al. 2005; Lei et al. 2018). Raises `InputError` without
    scores, for scores that are not finite, and for a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile is {quantile}; it must lie between 0 and 1")
    count = scores.size
    if count == 0:
        raise InputError("there are no held-out normal scores to set the threshold on; hold out some normal images")
    if not np.isfinite(scores).all():
        raise InputError("held-out normal scores are not all finite; a threshold needs finite scores")
    # Rounded first: 100 * 0.07 is 7.000000000000001, whose ceiling would be 8.
    rank = min(max(math.ceil(round((count + 1) * quantile, 9)), 1), count)
    value = float(np.partition(scores, rank - 1, axis=None)[rank - 1])
    return Threshold(value, (count + 1 - rank) / (count + 1), count)
