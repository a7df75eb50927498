"""A decision threshold from normal scores alone, or from labelled ones; and one on maps, with the regions above it.

scikit-learn and scipy.stats are imported by what needs them, since they take a second, and a run begins long before.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from kdad.errors import InputError
from kdad.parameters.strict import StrictModel
from kdad.scoring.parameters import LABELLED_RULES, GroupScore, ThresholdRule

_CONFIDENCE = 0.95
_TAILS = ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2)


class Threshold(StrictModel):
    """A threshold: an image is anomalous when its score is greater than `value`.

    One that was set by groups promises of new groups, whose score is that of their highest image.
    """

    value: float
    rule: ThresholdRule = Field(description="how it was set")
    wanted: float | None = Field(None, description="the quantile, rate or value that the rule was given")
    expected_false_positive_rate: float | None = Field(
        description="chance, in (0, 1), that a new normal image, or group, exceeds it; less when scores tie; null: "
        "nothing is promised"
    )
    false_positive_rate_bound: float | None = Field(
        description="what the true rate stays below with a confidence of 95 %, over draws of the normal images; or null"
    )
    false_positive_rate_low: float | None = Field(
        None, description="lower end of the interval that holds the true rate with a confidence of 95 %"
    )
    false_positive_rate_high: float | None = Field(None, description="upper end of that interval")
    normal_images: int = Field(description="normal images that it was set on")
    anomalous_images: int = Field(0, description="anomalous images that it was set on")
    group_scores: list[float] = Field(
        [], description="highest score of each group of normal images that it was set on, ascending; empty without"
    )
    group_score: GroupScore | None = Field(
        None, description="how a group that is decided on gets its score of its images'; null: images are decided on"
    )
    group_value: float | None = Field(
        None,
        description="a group is anomalous when its score is greater, which is promised as of the value",
    )
    group_means: list[float] = Field([], description="of a group_score mean: each group's score, ascending")

    @model_validator(mode="before")
    @classmethod
    def _without_folds(cls, values: Any) -> Any:
        """Leave out what a detector that was kept before 0.2 says of scores by folds."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in ("scores_of", "folds")}

    def statement(self) -> str:
        """Say what it promises, with how much certainty, and what was wanted if that is out of reach."""
        if self.expected_false_positive_rate is None:
            return "it was set by hand, and promises nothing"
        missing, what, by = self.draws_missing, "images", f"{self.normal_images} normal images"
        if self.group_scores:
            what, by = "groups", f"{len(self.group_scores)} groups of {by}"
        return (
            f"{self.expected_false_positive_rate:.2%} of new normal {what} are expected above it, less than "
            f"{self.false_positive_rate_bound:.2%} with 95 % confidence ({by})"
            + (f"; the wanted {1 - self.wanted:.2%} takes {missing} more normal validation {what}" if missing else "")
        )

    @property
    def draws(self) -> int:
        """How many independent draws it was set on: groups where there are some, else images."""
        return len(self.group_scores) or self.normal_images

    @property
    def draws_missing(self) -> int:
        """How many more draws the wanted quantile takes; 0 where it is reached, and for other rules."""
        if self.rule != "quantile" or self.wanted is None:
            return 0
        return max(images_needed(self.wanted) - self.draws, 0)

    def exceeding_range(self, count: int) -> tuple[int, int] | None:
        """Return between which numbers of `count` new normal images, or groups, exceed it, with a confidence of 95 %.

        Of m new scores those above the k-th of n follow the beta-binomial distribution of m, n + 1 - k and k. None for
        a threshold that anomalous images had a part in, or that was set by hand: of those that does not hold.
        """
        from scipy.stats import betabinom

        if self.expected_false_positive_rate is None:
            return None
        above = round(self.expected_false_positive_rate * (self.draws + 1))  # n + 1 - k
        if self.anomalous_images or not 0 < above <= self.draws:
            return None
        low, high = betabinom.ppf(_TAILS, count, above, self.draws + 1 - above)
        return int(low), int(high)

    def require_groups(self) -> None:
        """Raise `InputError` for a threshold that decides on images alone."""
        if self.group_value is None:
            raise InputError(
                "the detector decides on images alone; train with measuring.group_score=max or mean, and dataset.groups"
            )

    def of_group(self, scores: np.ndarray) -> tuple[float, bool]:
        """Return the score of a group by its images' `scores` `(N,)`, and whether it is anomalous.

        Raises `InputError` as `require_groups`.
        """
        self.require_groups()
        (score,) = scores_of_groups(scores, np.zeros(len(scores)), self.group_score)
        return float(score), bool(score > self.group_value)


class Calibration(StrictModel):
    """A threshold and the normal scores that it was set on, by a detector in one number format."""

    threshold: Threshold
    validation_scores: list[float] = Field(description="ascending")

    @classmethod
    def of(cls, threshold: Threshold, scores: np.ndarray, **more: Any) -> Self:
        """Return that of a threshold and the normal scores `(N,)` behind it, in any order; `more` are other fields."""
        return cls(threshold=threshold, validation_scores=np.sort(scores.astype(np.float64)).tolist(), **more)

    def again(self, rule: ThresholdRule, wanted: float | None) -> Self:
        """Return the same with the threshold that a rule sets on the scores; raises `InputError` as the rules do."""
        known = threshold_again(rule, wanted, self.threshold, np.array(self.validation_scores))
        return self.model_copy(update={"threshold": known})


def images_needed(quantile: float) -> int:
    """Return how many normal validation scores it takes for a rate of 1 - `quantile` to be promised at all."""
    return math.ceil(round(1 / (1 - quantile), 9)) - 1


def scores_of_groups(scores: np.ndarray, groups: np.ndarray, group_score: GroupScore = "max") -> np.ndarray:
    """Return the score of each of the `groups` `(N,)` by its images' `scores` `(N,)`, in the order of their names."""
    names, places = np.unique(groups, return_inverse=True)
    if group_score == "mean":
        return np.bincount(places, scores) / np.bincount(places)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, places, scores)
    return highest


def quantile_threshold(
    scores: np.ndarray, quantile: float, groups: np.ndarray | None = None, group_score: GroupScore | None = None
) -> Threshold:
    """Return the k-th smallest of n normal validation scores, k = ceil((n + 1) * quantile), at most n.

    A new normal score exchangeable with these exceeds it with chance (n + 1 - k) / (n + 1), at most 1 - quantile unless
    n is too small for that (split conformal prediction, Vovk et al. 2005; Lei et al. 2018). Images of one group are no
    independent draws: with `groups` `(N,)` the n scores are the highest of each, and the promise is of a new group,
    that none of its images exceeds it. With a `group_score` groups are decided on too. Raises `InputError` without
    scores, for scores that are not finite, and for a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile is {quantile}; it must lie between 0 and 1")
    if scores.size == 0:
        raise InputError("there are no normal validation scores to set the threshold on; hold out some normal images")
    if not np.isfinite(scores).all():
        raise InputError("normal validation scores are not all finite; a threshold needs finite scores")
    draws = scores if groups is None else scores_of_groups(scores, groups)
    count = draws.size
    # Rounded first: 100 * 0.07 is 7.000000000000001, whose ceiling would be 8.
    rank = min(max(math.ceil(round((count + 1) * quantile, 9)), 1), count)
    value = float(np.partition(draws, rank - 1, axis=None)[rank - 1])
    found = _promise(value, "quantile", quantile, count - rank, count)
    if groups is None:
        return found
    means = scores_of_groups(scores, groups, "mean") if group_score == "mean" else np.empty(0)
    return _of_groups(found, draws, scores.size, group_score, means)


def _of_groups(
    found: Threshold, highest: np.ndarray, images: int, group_score: GroupScore | None, means: np.ndarray
) -> Threshold:
    """Return a threshold with the groups behind it; where they are decided on, with theirs of the same rank."""
    value = None if group_score is None else found.value
    if group_score == "mean" and found.expected_false_positive_rate is not None:
        above = round(found.expected_false_positive_rate * (means.size + 1))  # n + 1 - k
        value = float(np.sort(means)[means.size - above])
    return found.model_copy(
        update={
            "group_scores": np.sort(highest).tolist(),
            "normal_images": images,
            "group_score": group_score,
            "group_value": value,
            "group_means": np.sort(means).tolist(),
        }
    )


def rate_threshold(
    scores: np.ndarray, rate: float, groups: np.ndarray | None = None, group_score: GroupScore | None = None
) -> Threshold:
    """Return the lowest normal score that new normal images, or groups, exceed with a chance of at most `rate`.

    Raises `InputError` when there are too few scores to promise that: n of them promise 1 / (n + 1) at best.
    """
    if not 0 < rate < 1:
        raise InputError(f"the wanted false positive rate is {rate}; it must lie between 0 and 1")
    needed = images_needed(1 - rate)
    draws = scores.size if groups is None else len(np.unique(groups))
    if draws < needed:
        raise InputError(
            f"{draws} normal {'images' if groups is None else 'groups'} can promise a false positive rate of "
            f"{1 / (draws + 1):.2%} at best, not {rate:.2%}; give at least {needed}, or want a higher rate"
        )
    found = quantile_threshold(scores, 1 - rate, groups, group_score)
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
        # The cut was chosen without these normal scores: the interval is that of a share (Clopper and Pearson 1934).
        low = _quantile_of_beta(_TAILS[0], exceeding, normal - exceeding + 1)
        return found.model_copy(update={"false_positive_rate_low": low})
    # The best cut was chosen by these normal scores too, so the bounds have to hold at every cut (Massart 1990).
    share = exceeding / normal
    one_sided, two_sided = (math.sqrt(-math.log(tail) / (2 * normal)) for tail in (1 - _CONFIDENCE, _TAILS[0]))
    bounds = {
        "false_positive_rate_bound": min(share + one_sided, 1.0),
        "false_positive_rate_low": max(share - two_sided, 0.0),
        "false_positive_rate_high": min(share + two_sided, 1.0),
    }
    return found.model_copy(update=bounds)


def threshold_by_rule(
    rule: ThresholdRule,
    wanted: float | None,
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    group_score: GroupScore | None = None,
) -> Threshold:
    """Return the threshold that a rule sets on scores `(N,)` with labels `(N,)`; `wanted` is its quantile or rate.

    Rules of normal images leave anomalous ones out, and go by `groups` `(N,)` where there are some, which are decided
    on by their `group_score`. ``value`` looks at none, and promises nothing. Raises `InputError` as the rules do.
    """
    if rule == "value":
        return _of_ones_own(wanted, group_score)
    if rule in LABELLED_RULES:
        return labelled_threshold(labels, scores, rule, wanted)
    normal, of_normal = scores[labels == 0], None if groups is None else groups[labels == 0]
    set_on = quantile_threshold if rule == "quantile" else rate_threshold
    return set_on(normal, wanted, of_normal, group_score)


def threshold_again(rule: ThresholdRule, wanted: float | None, known: Threshold, scores: np.ndarray) -> Threshold:
    """Return the threshold that a rule sets on the normal `scores` `(N,)` behind a `known` one, by its groups if any.

    Raises `InputError` as the rules do.
    """
    if not known.group_scores:
        return threshold_by_rule(rule, wanted, np.zeros(scores.size, dtype=int), scores)
    highest, means = np.array(known.group_scores), np.array(known.group_means)
    if rule == "value":  # the groups are remembered for a later rule
        kept = {"group_scores": highest.tolist(), "group_means": means.tolist()}
        return _of_ones_own(wanted, known.group_score).model_copy(update=kept)
    found = threshold_by_rule(rule, wanted, np.zeros(highest.size, dtype=int), highest)
    return _of_groups(found, highest, known.normal_images, known.group_score, means)


def _of_ones_own(value: float, group_score: GroupScore | None = None) -> Threshold:
    return Threshold(
        group_score=group_score,
        group_value=None if group_score is None else value,
        value=value,
        rule="value",
        wanted=value,
        expected_false_positive_rate=None,
        false_positive_rate_bound=None,
        normal_images=0,
    )


def _below(cut: float, scores: np.ndarray) -> float:
    """Return the value that the scores from `cut` on exceed and no others: the middle of the gap below `cut`."""
    below = scores[scores < cut]
    if not below.size:
        return float(np.nextafter(cut, -np.inf))
    nearest = float(below.max())
    middle = nearest / 2 + cut / 2  # infinite for the cut that finds nothing, and rounded where the gap is a hair's
    return middle if nearest < middle < cut else nearest


def _promise(value: float, rule: ThresholdRule, wanted: float | None, exceeding: int, count: int) -> Threshold:
    """State what a threshold promises that `exceeding` of `count` normal scores exceed.

    The share of a continuous law above the k-th of n scores has the distribution Beta(n + 1 - k, k), k = n - exceeding.
    """
    low, bound, high = (
        _quantile_of_beta(share, exceeding + 1, count - exceeding) for share in (_TAILS[0], _CONFIDENCE, _TAILS[1])
    )
    return Threshold(
        value=value,
        rule=rule,
        wanted=wanted,
        expected_false_positive_rate=(exceeding + 1) / (count + 1),
        false_positive_rate_bound=bound,
        false_positive_rate_low=low,
        false_positive_rate_high=high,
        normal_images=count,
    )


def _quantile_of_beta(share: float, a: int, b: int) -> float:
    """Return the quantile of Beta(a, b), at its limits 0 for a = 0 and 1 for b = 0."""
    from scipy.special import betaincinv

    return 0.0 if a == 0 else 1.0 if b == 0 else float(betaincinv(a, b, share))


class PixelThreshold(Calibration):
    """A threshold on maps, set on the levels (`level_of`) of normal images: it promises how many have any region."""

    min_area: int = Field(1, ge=1, description="pixels of the image's file that a region has at least")

    def statement(self) -> str:
        """Say what it marks, and what it promises."""
        marked = f"{self.threshold.value:.6g}; an image is above it where a region of {self.min_area} pixels or more is"
        return f"{marked}: {self.threshold.statement()}"


@dataclass(frozen=True)
class MarkedRegion:
    """8-connected pixels of a map above the threshold, in pixels of the image: the `box` ends before x1 and y1."""

    box: tuple[int, int, int, int]
    area: int


def least_pixels(min_area: int, own: tuple[int, int], size: tuple[int, int]) -> int:
    """Return how many pixels of a map of `size` are `min_area` pixels of an image of its `own` size, one at least."""
    return max(math.ceil(min_area * size[0] * size[1] / (own[0] * own[1])), 1)


def level_of(anomaly_map: np.ndarray, least: int) -> float:
    """Return below which threshold a map `(H, W)` has a region of `least` pixels or more; at most that of all pixels.

    It is the highest value of the map's area opening (Vincent 1993), found by halving.
    """
    values = np.unique(anomaly_map)
    # The region has as many pixels that are at least as high.
    high = int(np.searchsorted(values, np.sort(anomaly_map, axis=None)[-min(least, anomaly_map.size)]))
    low = 0 if least > 1 else high
    while low < high:
        middle = (low + high + 1) // 2
        labels = _label(anomaly_map >= values[middle])
        if np.bincount(labels.ravel())[1:].max() >= least:
            low = middle
        else:
            high = middle - 1
    return float(values[low])


def find_regions(anomaly_map: np.ndarray, threshold: float, least: int) -> list[tuple[tuple[slice, slice], int]]:
    """Return rows, columns and pixels of each region of a map `(H, W)` above `threshold`, the largest first."""
    from scipy.ndimage import find_objects

    labels = _label(anomaly_map > threshold)
    areas = np.bincount(labels.ravel())[1:]
    found = zip(find_objects(labels), areas.tolist(), strict=True)
    return sorted((one for one in found if one[1] >= least), key=lambda one: -one[1])


def _label(marked: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    return label(marked, np.ones((3, 3), dtype=bool))[0]
