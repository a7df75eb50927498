"""Whether scores of new images still are like those that a threshold was set on.

scipy.stats is imported by what needs it, since it takes a second.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kdad.scoring.parameters import DriftParameters
from kdad.scoring.threshold import Threshold

#: Images, new and held out, below which nothing is said.
LEAST = 20
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class NormalReference:
    """What new scores are compared with: a threshold, and the normal scores `(N,)` that it was set on."""

    threshold: Threshold
    scores: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Drift:
    """What a comparison found; p-values are chances of such scores, or stranger ones, if nothing has changed.

    `verdict` is ``changed`` when one of both is at most half of `alpha`, ``unknown`` of too few images.
    """

    verdict: Literal["changed", "unchanged", "unknown"]
    images: int
    validation: int
    alarms: int
    alarm_rate_low: float
    alarm_rate_high: float
    promised: float | None
    alarm_p_value: float
    statistic: float
    score_p_value: float
    alpha: float
    higher: bool
    labelled: bool

    @property
    def alarm_rate(self) -> float:
        """The share of the images above the threshold."""
        return self.alarms / self.images if self.images else float("nan")

    def statement(self) -> str:
        """Say in one line whether the promise still holds, as far as can be told."""
        of = "normal images" if self.labelled else "images"
        if self.verdict == "unknown":
            few = f"{self.images} {of}" if self.images < LEAST else f"{self.validation} normal validation images"
            asked = "scores have changed" if self.promised is None else "the promised false positive rate still holds"
            return f"whether {asked} cannot be told by {few}; it takes {LEAST}"
        promised = "nothing is promised" if self.promised is None else f"promised of normal ones {self.promised:.1%}"
        numbers = (
            f"{self.alarms} of {self.images} {of} are above the threshold ({self.alarm_rate:.1%}, 95 % interval "
            f"{self.alarm_rate_low:.1%} to {self.alarm_rate_high:.1%}; {promised}); "
            f"scores against those of {self.validation} normal validation images: Kolmogorov-Smirnov D = "
            f"{self.statistic:.2f}, p = {self.score_p_value:.2g}"
        )
        if self.verdict == "unchanged":
            sign = (
                "scores have changed" if self.promised is None else "the promised false positive rate no longer holds"
            )
            return f"no sign that {sign}: {numbers}"
        if self.alarm_p_value <= self.alpha / 2:
            lead = "the promised false positive rate no longer holds, if these images are normal"
        elif self.higher:
            doubt = "" if self.promised is None else ", so that the promised false positive rate is in doubt"
            lead = f"scores have risen{doubt}"
        else:
            lead = "scores have fallen or spread: no more false alarms, but anomalies may be missed"
        why = "" if self.labelled else "; there may be more real anomalies than usual, or the images have changed"
        return f"{lead}: {numbers}{why}: look at them, and where they are normal calibrate on such images"

    def numbers(self) -> dict[str, Any]:
        """Return what was found for a table of metrics; without verdict when nothing can be said."""
        found: dict[str, Any] = {"images": self.images, "alarm_rate": self.alarm_rate}
        if self.verdict == "unknown":
            return found if self.images else {"images": 0}
        return found | {
            "alarm_rate_low": self.alarm_rate_low,
            "alarm_rate_high": self.alarm_rate_high,
            **({} if self.promised is None else {"promised_rate": self.promised}),
            "alarm_p_value": self.alarm_p_value,
            "ks_statistic": self.statistic,
            "ks_p_value": self.score_p_value,
            "changed": int(self.verdict == "changed"),
        }


def compare_scores(scores: np.ndarray, reference: NormalReference, alpha: float, labelled: bool = False) -> Drift:
    """Compare the scores `(M,)` of new images, all of them `labelled` normal or of unknown kind, with a reference.

    Two tests at alpha / 2 each. Scores: two-sample Kolmogorov-Smirnov. Alarms: their number is beta-binomial for a
    threshold that normal images set, since the threshold itself was drawn; for one that anomalous images had a part in,
    binomial at the bound of its rate.
    """
    from scipy.stats import binomtest, ks_2samp

    validation = reference.scores
    alarms = int((scores > reference.threshold.value).sum())
    low, high, statistic, p_scores, p_alarms, higher = 0.0, 1.0, 0.0, 1.0, 1.0, False
    if scores.size:
        interval = binomtest(alarms, scores.size).proportion_ci(_CONFIDENCE, method="exact")
        low, high = float(interval.low), float(interval.high)
        p_alarms = _chance_of_alarms(alarms, scores.size, reference.threshold)
    if scores.size and validation.size:
        found = ks_2samp(scores, validation)
        statistic, p_scores = float(found.statistic), float(found.pvalue)
        higher = float(np.median(scores)) > float(np.median(validation))
    verdict = "unknown"
    if scores.size >= LEAST:
        if min(p_alarms, p_scores) <= alpha / 2:
            verdict = "changed"
        elif validation.size >= LEAST:
            verdict = "unchanged"
    return Drift(
        verdict,
        int(scores.size),
        int(validation.size),
        alarms,
        low,
        high,
        reference.threshold.expected_false_positive_rate,
        p_alarms,
        statistic,
        p_scores,
        alpha,
        higher,
        labelled,
    )


def latest_look(
    latest: np.ndarray, count: int, reference: NormalReference, parameters: DriftParameters
) -> Drift | None:
    """Return the latest look at a stream of `count` scores; None before the first.

    `latest` are the last scores in their order, one and a half windows of them or all that there are. A look is at a
    window's images, each time half a window has come. The k-th has the share 1 / (k (k + 1)) of alpha; these shares sum
    to 1, so that alpha bounds the chance of any false report, however long the stream is and however windows overlap
    (union bound).
    """
    step = parameters.window // 2
    looks = count // step
    if not looks:
        return None
    end = latest.size - (count - looks * step)
    window = latest[max(end - parameters.window, 0) : end]
    return compare_scores(window, reference, parameters.alpha / (looks * (looks + 1)))


def _chance_of_alarms(alarms: int, count: int, threshold: Threshold) -> float:
    """Return the chance of so many alarms or more among `count` new normal images, if nothing has changed."""
    from scipy.stats import betabinom, binom

    # Nothing was promised; or images of one group exceed it together, so that their number says nothing.
    if threshold.expected_false_positive_rate is None or threshold.group_scores:
        return 1.0
    normal = threshold.normal_images
    above = round(threshold.expected_false_positive_rate * (normal + 1))
    if threshold.anomalous_images or not 0 < above <= normal:
        return float(binom.sf(alarms - 1, count, min(threshold.false_positive_rate_bound, 1.0)))
    return float(betabinom.sf(alarms - 1, count, above, normal + 1 - above))
