"""A decision threshold from normal scores alone, or from labelled ones.

scikit-learn and scipy.stats are imported by what needs them, since they take a second, and a run begins long before.
"""

import math

import numpy as np
from pydantic import Field

from kdad.errors import InputError
from kdad.parameters.scoring import ThresholdRule
from kdad.parameters.strict import StrictModel

_CONFIDENCE = 0.95


class Threshold(StrictModel):
    """A threshold: an image is anomalous when its score is greater than `value`."""

    value: float
    rule: ThresholdRule = Field(description="how it was set")
    wanted: float | None = Field(None, description="the quantile or rate that the rule was given")
    expected_false_positive_rate: float = Field(
        description="chance, in (0, 1), that a new normal image exceeds it; less when scores tie"
    )
    false_positive_rate_bound: float = Field(
        description="what the true rate stays below with a confidence of 95 %, over draws of the normal images"
    )
    normal_images: int = Field(description="normal images that it was set on")
    anomalous_images: int = Field(0, description="anomalous images that it was set on")

    def statement(self) -> str:
        """Say what it promises."""
        return (
            f"{self.expected_false_positive_rate:.2%} of new normal images are expected above it, less than "
            f"{self.false_positive_rate_bound:.2%} with 95 % confidence ({self.normal_images} normal images)"
        )


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
    return _promise(value, "quantile", quantile, count - rank, count)


def rate_threshold(scores: np.ndarray, rate: float) -> Threshold:
    """Return the lowest normal score that new normal images exceed with a chance of at most `rate`.

    Raises `InputError` when there are too few scores to promise that: n of them promise 1 / (n + 1) at best.
    """
    if not 0 < rate < 1:
        raise InputError(f"the wanted false positive rate is {rate}; it must lie between 0 and 1")
    needed = math.ceil(round(1 / rate, 9)) - 1
    if scores.size < needed:
        raise InputError(
            f"{scores.size} normal images can promise a false positive rate of {1 / (scores.size + 1):.2%} at best, "
            f"not {rate:.2%}; give at least {needed}, or want a higher rate"
        )
    found = quantile_threshold(scores, 1 - rate)
    return found.model_copy(update={"rule": "false_positive_rate", "wanted": rate})


def labelled_threshold(
    labels: np.ndarray, scores: np.ndarray, rule: ThresholdRule, wanted: float | None = None
) -> Threshold:
    """Return the threshold that is best on labelled images, in the middle of the gap that all equal ones share.

    ``f1`` has the largest F1, ``youden`` the largest true minus false positive rate, ``true_positive_rate`` the fewest
    false positives among those that find the share `wanted` of the anomalous. `labels` are 0 and 1. Raises `InputError`
    without both labels, for scores that are not finite, and for a rate outside (0, 1].
    """
    from sklearn.metrics import roc_curve

    anomalous, normal = int((labels == 1).sum()), int((labels == 0).sum())
    if not anomalous or not normal:
        raise InputError(f"the rule '{rule}' needs normal and anomalous images; there are {normal} and {anomalous}")
    if not np.isfinite(scores).all():
        raise InputError("scores are not all finite; a threshold needs finite scores")
    false_rate, true_rate, cuts = roc_curve(labels, scores, drop_intermediate=False)
    if rule == "true_positive_rate":
        if wanted is None or not 0 < wanted <= 1:
            raise InputError(f"the wanted true positive rate is {wanted}; it must lie above 0 and at most be 1")
        best = int(np.argmax(true_rate >= wanted - 1e-12))
    else:
        # In whole images, so that equal cuts are equal: of them the one that finds fewest is taken.
        found, false = np.rint(true_rate * anomalous), np.rint(false_rate * normal)
        best = int(
            np.argmax(2 * found / (found + false + anomalous) if rule == "f1" else found * normal - false * anomalous)
        )
    value = _below(float(cuts[best]), scores)
    exceeding = int((scores[labels == 0] > value).sum())
    found = _promise(value, rule, wanted, exceeding, normal).model_copy(update={"anomalous_images": anomalous})
    if rule == "true_positive_rate":
        return found
    # The best cut was chosen by these normal scores too, so the bound has to hold at every cut (Massart 1990).
    bound = min(exceeding / normal + math.sqrt(-math.log(1 - _CONFIDENCE) / (2 * normal)), 1.0)
    return found.model_copy(update={"false_positive_rate_bound": bound})


def _below(cut: float, scores: np.ndarray) -> float:
    """Return the value that the scores from `cut` on exceed and no others: the middle of the gap below `cut`."""
    below = scores[scores < cut]
    if not below.size:
        return float(np.nextafter(cut, -np.inf))
    nearest = float(below.max())
    middle = nearest / 2 + cut / 2  # infinite for the cut that finds nothing, and rounded where the gap is a hair's
    return middle if nearest < middle < cut else nearest


def _promise(value: float, rule: ThresholdRule, wanted: float | None, exceeding: int, count: int) -> Threshold:
    """State what a threshold promises that `exceeding` of `count` normal scores exceed."""
    from scipy.stats import beta

    return Threshold(
        value=value,
        rule=rule,
        wanted=wanted,
        expected_false_positive_rate=(exceeding + 1) / (count + 1),
        # The share above the k-th of n scores of a continuous law has the distribution Beta(n + 1 - k, k).
        false_positive_rate_bound=float(beta.ppf(_CONFIDENCE, exceeding + 1, count - exceeding))
        if exceeding < count
        else 1.0,
        normal_images=count,
    )
