"""The one measurement puts each metric's own function together, on the right images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kdad.images.ground_truth import GroundTruth
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.measure import TestMaps as MeasuredMaps
from kdad.metrics.measure import measure, numbers_of
from kdad.parameters.scoring import MeasuringParameters

_MEASURING = MeasuringParameters(bootstrap_resamples=100)


@pytest.fixture
def test_table() -> pd.DataFrame:
    """Seven test images."""
    return pd.DataFrame(
        {
            "label": [0, 0, 0, 0, 1, 1, 1],
            "score": [0.1, 0.4, 0.2, 0.7, 0.3, 0.8, 0.9],
            "decision": [0, 0, 0, 1, 0, 1, 1],
        }
    )


@pytest.fixture
def truth() -> GroundTruth:
    """Masks of all but one anomalous image."""
    masks = np.zeros((6, 8, 9), dtype=bool)
    masks[4, 2:5, 3:6] = masks[5, 1:3, 1:7] = True
    return GroundTruth(np.array([0, 1, 2, 3, 4, 6]), masks, None, 1)


def _maps(seed, sigma=0.0) -> MeasuredMaps:
    smoothed, raw = np.random.default_rng(seed).random((2, 7, 8, 9))
    return MeasuredMaps(smoothed, raw, sigma)


def test_detection_by_another_library_and_by_counting(test_table, truth):
    found = measure(test_table, {}, truth, _MEASURING)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(test_table["label"], test_table["score"]))
    expected = average_precision_score(test_table["label"], test_table["score"])
    assert expected in [pytest.approx(value) for value in found.values() if isinstance(value, float)]
    assert found["false_positive_rate"] == 1 / 4
    assert found["true_positive_rate"] == 2 / 3
    assert (found["test_normal"], found["test_anomalous"]) == (4, 3)


def test_the_interval_is_the_same_whoever_asks(test_table, truth):
    np.random.default_rng(0).random(5)
    assert measure(test_table, {}, truth, _MEASURING) == measure(test_table, {}, truth, _MEASURING)


def test_maps_are_measured_where_masks_are_and_the_first_method_stands_on_top(test_table, truth):
    maps = {"one": _maps(0, 2.0), "two": _maps(1)}
    found = measure(test_table, maps, truth, _MEASURING)
    at = truth.positions
    for name, own in maps.items():
        arguments = (truth.masks, own.smoothed[at], own.raw[at], own.gaussian_sigma, _MEASURING.max_fpr)
        assert found["localisation"][name] == localisation_metrics(*arguments)
    labels = truth.masks.ravel()
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(labels, maps["one"].smoothed[at].ravel()), abs=1e-6)
    assert {name: found[name] for name in PIXEL_METRICS} == found["localisation"]["one"]
    assert found["localisation_left_out"] is None
    assert found["anomalous_images_without_mask"] == 1


def test_without_masks_or_maps_the_reason_stands_in_their_place(test_table, truth):
    reason = GroundTruth(truth.positions, truth.masks, "this image set has no masks")
    found = measure(test_table, {"one": _maps(0)}, reason, _MEASURING)
    assert [found[name] for name in PIXEL_METRICS] == [None] * len(PIXEL_METRICS)
    assert found["localisation"] == {"one": dict.fromkeys(PIXEL_METRICS)}
    assert found["localisation_left_out"] == "this image set has no masks"
    found = measure(test_table, {}, truth, _MEASURING)
    assert [found[name] for name in PIXEL_METRICS] == [None] * len(PIXEL_METRICS)
    assert found["localisation_left_out"] == "the system makes no maps"


def test_rates_of_a_test_with_one_label_are_none(test_table, truth):
    found = measure(test_table[test_table["label"] == 0], {}, truth, _MEASURING)
    assert (found["false_positive_rate"], found["true_positive_rate"]) == (1 / 4, None)


@pytest.mark.parametrize("reason", [None, "there are no masks"])
def test_a_reason_is_no_number(test_table, truth, reason):
    told = GroundTruth(truth.positions, truth.masks, reason, truth.unmasked)
    numbers = numbers_of(measure(test_table, {"forward": _maps(0)}, told, _MEASURING))
    assert "localisation_left_out" not in numbers
    assert (numbers["pixel_auroc"] is None) == (reason is not None)
    assert numbers["true_positive_rate"] == 2 / 3
