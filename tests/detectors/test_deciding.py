"""Decisions on a known set, and what a detector is given with its threshold."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdad.detectors.deciding import maps_to_measure, set_threshold, threshold_scores
from kdad.images.splits import Split
from kdad.scoring.image_score import ImageScore
from kdad.scoring.threshold import Threshold


@pytest.fixture
def split() -> Split:
    """Two training, two validation and two test images."""
    return Split(
        pd.DataFrame(
            {
                "id": list("abcdef"),
                "label": [0, 0, 0, 0, 0, 1],
                "kind": ["good"] * 5 + ["hole"],
                "split": ["train", "train", "validation", "validation", "test", "test"],
            }
        )
    )


class _Scored(SimpleNamespace):
    """A detector whose score is its map's largest value; `given` is what it was calibrated with."""

    methods = ("forward",)
    image_score = ImageScore("forward", "map_maximum")

    def calibrated(self, *given):
        self.given = given
        return self

    def smoothing(self, method):
        return SimpleNamespace(gaussian_sigma=1.5)


_MAPS = {"forward": np.array([1.0, 3.0, 2.0, 5.0])[:, None, None] * np.ones((4, 2, 2))}
_RAW = pd.DataFrame({"row": [2, 3, 4, 5], "loss": [0.1, 0.2, 0.3, 0.4], "score": [9, 9, 9, 9]})


def test_scored_images_are_decided_on_and_keep_their_raw_scores(split):
    scores, threshold = threshold_scores(_Scored(), split, _RAW, _MAPS, 0.5)
    assert scores["id"].tolist() == list("cdef")
    assert scores["score"].tolist() == [1, 3, 2, 5]  # not the raw score of that name
    assert scores["loss"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert 1 <= threshold.value <= 3
    assert scores["decision"].tolist() == [int(score > threshold.value) for score in (1, 3, 2, 5)]


def test_a_detector_is_calibrated_on_held_out_images_alone(split):
    detector = _Scored()
    scores, threshold = threshold_scores(detector, split, _RAW, _MAPS, 0.5)
    assert set_threshold(detector, scores, threshold, _MAPS) is detector
    given_threshold, validation, (low, high) = detector.given
    assert isinstance(given_threshold, Threshold) and validation.tolist() == [1, 3]
    assert low == 2 and 2 < high <= 4  # of the maps of ones and threes: median 2, twice as far above as 3


def test_test_images_are_measured(split):
    (found,) = maps_to_measure(_Scored(), split, {"forward": -_MAPS["forward"]}, _MAPS).values()
    assert found.smoothed[:, 0, 0].tolist() == [2, 5]
    assert found.raw[:, 0, 0].tolist() == [-2, -5]
    assert found.gaussian_sigma == 1.5
