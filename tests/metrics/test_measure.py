"""The one measurement puts each metric's own function together, on the right images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kdad.metrics.ground_truth import GroundTruth
from kdad.metrics.measure import PIXEL_METRICS, measure, measure_categories, measure_pixels, numbers_of
from kdad.metrics.measure import MapSet as MeasuredMaps
from kdad.scoring.parameters import MeasuringParameters

_MEASURING = MeasuringParameters(bootstrap_resamples=100)


@pytest.fixture
def test_table() -> pd.DataFrame:
    """Seven test images."""
    return pd.DataFrame(
        {
            "label": [0, 0, 0, 0, 1, 1, 1],
            "kind": ["good"] * 4 + ["dent", "hole", "hole"],
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
    found, _ = measure(test_table, {}, truth, _MEASURING)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(test_table["label"], test_table["score"]))
    expected = average_precision_score(test_table["label"], test_table["score"])
    assert expected in [pytest.approx(value) for value in found.values() if isinstance(value, float)]
    assert found["false_positive_rate"] == 1 / 4
    assert found["true_positive_rate"] == 2 / 3
    assert (found["test_normal"], found["test_anomalous"]) == (4, 3)


def test_each_kind_is_ranked_among_all_normal_images_and_kinds_make_up_the_whole(test_table, truth):
    maps = {"one": _maps(0), "two": _maps(1)}
    found, _ = measure(test_table, maps, truth, _MEASURING)
    dent, hole = found["by_kind"]["dent"], found["by_kind"]["hole"]
    assert list(found["by_kind"]) == ["dent", "hole"]
    # 0.3 is above 0.1 and 0.2 of four; 0.8 and 0.9 are above all.
    assert (dent["image_auroc"], dent["found"], dent["images"]) == (2 / 4, 0, 1)
    assert (hole["image_auroc"], hole["found"], hole["images"]) == (1.0, 2, 2)
    # A region of each kind has a mask: PRO of all is the mean.
    assert (dent["pro_auc"] + hole["pro_auc"]) / 2 == pytest.approx(found["pro_auc"], abs=1e-12)
    assert dent["pro_auc"] != pytest.approx(hole["pro_auc"])
    without, _ = measure(test_table, {}, truth, _MEASURING)
    assert [of["pro_auc"] for of in without["by_kind"].values()] == [None, None]
    anomalous, _ = measure(test_table[test_table["label"] == 1], {}, truth, _MEASURING)
    assert anomalous["by_kind"]["hole"]["image_auroc"] is None


def test_the_interval_is_the_same_whoever_asks(test_table, truth):
    np.random.default_rng(0).random(5)
    assert measure(test_table, {}, truth, _MEASURING) == measure(test_table, {}, truth, _MEASURING)


def test_maps_are_measured_where_masks_are_and_the_first_method_stands_on_top(test_table, truth):
    maps = {"one": _maps(0, 2.0), "two": _maps(1)}
    found, _ = measure(test_table, maps, truth, _MEASURING)
    at = truth.positions
    for name, own in maps.items():
        arguments = (truth, own.smoothed[at], own.raw[at], own.gaussian_sigma, _MEASURING.max_fpr)
        assert found["localisation"][name] == measure_pixels(*arguments)[0]
    labels = truth.masks.ravel()
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(labels, maps["one"].smoothed[at].ravel()), abs=1e-6)
    assert {name: found[name] for name in PIXEL_METRICS} == found["localisation"]["one"]
    assert found["localisation_left_out"] is None
    assert found["anomalous_images_without_mask"] == 1


def test_without_masks_or_maps_the_reason_stands_in_their_place(test_table, truth):
    reason = GroundTruth(truth.positions, truth.masks, "this image set has no masks")
    found, _ = measure(test_table, {"one": _maps(0)}, reason, _MEASURING)
    assert [found[name] for name in PIXEL_METRICS] == [None] * len(PIXEL_METRICS)
    assert found["localisation"] == {"one": dict.fromkeys(PIXEL_METRICS)}
    assert found["localisation_left_out"] == "this image set has no masks"
    found, _ = measure(test_table, {}, truth, _MEASURING)
    assert [found[name] for name in PIXEL_METRICS] == [None] * len(PIXEL_METRICS)
    assert found["localisation_left_out"] == "the system makes no maps"


def test_rates_of_a_test_with_one_label_are_none(test_table, truth):
    found, _ = measure(test_table[test_table["label"] == 0], {}, truth, _MEASURING)
    assert (found["false_positive_rate"], found["true_positive_rate"]) == (1 / 4, None)


@pytest.mark.parametrize("reason", [None, "there are no masks"])
def test_a_reason_is_no_number(test_table, truth, reason):
    told = GroundTruth(truth.positions, truth.masks, reason, truth.unmasked)
    numbers = numbers_of(measure(test_table, {"forward": _maps(0)}, told, _MEASURING)[0])
    assert not {"localisation_left_out", "metrics_left_out", "localisation_resolution"} & set(numbers)
    assert (numbers["pixel_auroc"] is None) == (reason is not None)
    assert numbers["true_positive_rate"] == 2 / 3


def test_pixels_are_measured_at_the_masks_own_resolution():
    # Maps of 2 x 2 become 2 x 4: between two pixels a quarter and three quarters of the way are taken.
    maps = np.zeros((2, 2, 2), dtype=np.float32)
    maps[1, 0, 1] = 1.0
    own = [np.zeros((2, 4), dtype=bool), np.zeros((2, 4), dtype=bool)]
    own[1][0, 3] = True  # a defect of one pixel, where the enlarged map is 1; beside it are 0.75 and 0.25
    truth = GroundTruth(np.array([0, 1]), np.zeros((2, 2, 2), dtype=bool), None, own_masks=own)
    test = pd.DataFrame({"label": [0, 1], "kind": ["good", "dent"], "score": [0.0, 1.0], "decision": [0, 1]})
    found, _ = measure(test, {"one": MeasuredMaps(maps, maps, 0.0)}, truth, _MEASURING)
    assert (found["pixel_auroc"], found["pixel_ap"], found["pro_auc"]) == (1.0, 1.0, 1.0)
    assert found["localisation_resolution"] == "the masks' own resolution"
    assert found["pixel_auroc_mkd_protocol"] is None
    assert found["metrics_left_out"] == "pixel_auroc_mkd_protocol: no mask is left at 2 x 2 pixels"
    own[1][0, 3], own[1][0, 2] = False, True  # 14 of 15 normal pixels lie below 0.75, one above
    assert measure(test, {"one": MeasuredMaps(maps, maps, 0.0)}, truth, _MEASURING)[0]["pixel_auroc"] == 14 / 15


def test_images_that_are_anomalous_as_a_whole_leave_out_the_protocol_alone(test_table):
    masks = np.zeros((7, 8, 9), dtype=bool)
    masks[4:] = True
    truth = GroundTruth(np.arange(7), masks, None)
    found, _ = measure(test_table, {"one": _maps(0)}, truth, _MEASURING)
    assert 0 <= found["pixel_auroc"] <= 1
    assert 0 <= found["pro_auc"] <= 1
    assert found["pixel_auroc_mkd_protocol"] is None
    assert found["metrics_left_out"].startswith("pixel_auroc_mkd_protocol: it is of masked images alone")
    assert found["localisation_left_out"] is None


def test_categories_are_measured_as_if_alone_by_their_own_thresholds(test_table, truth):
    members = np.array(["b", "a", "a", "b", "a", "a", "b"])
    maps = {"forward": _maps(0, 1.0)}
    cuts = {"a": 0.25, "b": 0.75}
    found = measure_categories(test_table.assign(member=members), maps, truth, _MEASURING, cuts)
    assert list(found) == ["b", "a", "mean"]
    for name in ("a", "b"):
        rows = np.flatnonzero(members == name)
        own = test_table.iloc[rows]
        assert found[name]["image_auroc"] == roc_auc_score(own["label"], own["score"])
        decided, normal = own["score"] > cuts[name], own["label"] == 0
        assert found[name]["false_positive_rate"] == decided[normal].mean()
        measured = [row for row in rows if row in truth.positions]
        masks = np.stack([truth.masks[list(truth.positions).index(row)] for row in measured])
        expected = roc_auc_score(masks.ravel(), maps["forward"].smoothed[measured].ravel())
        assert found[name]["pixel_auroc"] == pytest.approx(expected)
    assert found["mean"]["image_auroc"] == np.mean([found[name]["image_auroc"] for name in ("a", "b")])


def test_groups_that_are_decided_on_are_measured_as_images_are(test_table, truth):
    # Of seven images a and b are normal; c is anomalous by one of its images; d is.
    grouped = test_table.assign(group=list("aabcccd"))
    grouped["group_score"] = grouped.groupby("group")["score"].transform("mean")
    grouped["group_decision"] = (grouped["group_score"] > 0.55).astype(int)
    found, _ = measure(grouped, {}, truth, _MEASURING)
    scores = [(0.1 + 0.4) / 2, 0.2, (0.7 + 0.3 + 0.8) / 3, 0.9]
    assert found["group_auroc"] == roc_auc_score([0, 0, 1, 1], scores) == 1.0
    assert (found["group_false_positive_rate"], found["group_true_positive_rate"]) == (0.0, 1.0)
    assert (found["test_normal_groups"], found["test_anomalous_groups"]) == (2, 2)
    assert found["image_auroc"] == measure(test_table, {}, truth, _MEASURING)[0]["image_auroc"]
    alone, _ = measure(grouped.drop(columns=["group_score", "group_decision"]), {}, truth, _MEASURING)
    # Of the normal images' groups a, b, c the image of 0.7 in c exceeds.
    assert (alone["group_false_positive_rate"], alone["test_normal_groups"]) == (1 / 3, 3)
    assert "group_auroc" not in alone
