"""Remarks where promise, decisions and ranking do not agree, and none where they do."""

import numpy as np
import pytest

from kdad.reporting.threshold_remarks import counted, threshold_remarks
from kdad.scoring.threshold import quantile_threshold


def metrics(count: int, false: float | None, true: float | None, auroc: float | None = 1.0) -> dict:
    """Return the figures of 60 normal and 6 anomalous test images under the threshold of `count` validation ones."""
    return {
        "threshold": quantile_threshold(np.arange(float(count)), 0.95).model_dump(),
        "image_auroc": auroc,
        "false_positive_rate": false,
        "true_positive_rate": true,
        "test_normal": 60,
        "test_anomalous": 6,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((19, 0.05, 1.0), []),
        ((99, 0.05, 0.5), []),
        ((19, 0.05, 0.0, 0.6), []),  # ranked badly: a threshold could do no better
        ((19, None, None, None), []),
        ((2, 0.3, 1.0), ["2 normal scores cannot promise a false positive rate of 5.0%: the highest of them promises"]),
        ((1, 0.3, 1.0), ["1 normal score cannot promise"]),
        ((19, 0.05, 0.0), ["the threshold finds 0 of 6 (0.0 %) anomalous ones: it is too high"]),
        # Of 60, 2.5 % at most exceed the largest of 19 more often than 11 times.
        ((19, 1.0, 1.0), ["60 of 60 (100.0 %) normal test images exceed", "60 of 60 (100.0 %) normal ones exceed"]),
        ((19, 0.3, 1.0), ["18 of 60 (30.0 %) normal test images exceed the threshold, more than the 0 to "]),
        ((19, 0.3, 1.0, 0.6), ["18 of 60 (30.0 %) normal test images exceed the threshold, more than the 0 to "]),
        ((999, 0.0, 1.0), []),  # of 60 with a chance of 5 % none exceeds it in 4.6 % of cases
        ((2, 1.0, 1.0), ["2 normal scores cannot", "60 of 60 (100.0 %) normal test images exceed", "it is too low"]),
    ],
)
def test_what_is_remarked_upon(given, said):
    remarks = threshold_remarks(metrics(*given))
    assert len(remarks) == len(said)
    for remark, part in zip(remarks, said, strict=True):
        assert part in remark


def test_without_a_threshold_nothing_is_remarked_upon():
    assert threshold_remarks({"image_auroc": 1.0}) == []


def test_a_rate_with_its_counts():
    assert counted(1 / 3, 6) == "2 of 6 (33.3 %)"
    assert counted(None, 0) == "-"


def test_a_threshold_by_groups_is_compared_by_groups():
    groups = np.repeat(np.arange(19), 10)
    threshold = quantile_threshold(np.arange(190.0), 0.95, groups)
    # Each image of one film of twelve: one group in twelve is nothing unusual, 40 images of 60 would be.
    found = metrics(19, 40 / 60, 1.0, 0.6) | {"threshold": threshold.model_dump()}
    assert threshold_remarks(found | {"group_false_positive_rate": 1 / 12, "test_normal_groups": 12}) == []
    (said,) = threshold_remarks(found | {"group_false_positive_rate": 0.75, "test_normal_groups": 12})
    assert said.startswith("9 of 12 (75.0 %) groups of normal test images exceed the threshold, more than the 0 to ")
