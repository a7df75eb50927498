"""None"""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, roc_auc_score

from kdad.errors import InputError
from kdad.metrics import ranking
from kdad.metrics.ranking import (
    auroc_interval,
    classification_metrics,
    detection_metrics,
    draw_groups,
    image_ap,
    image_auroc,
    image_f1_max,
)

LABELS = np.array([0, 0, 1, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8])


def test_auroc_by_hand():
    assert image_auroc(LABELS, SCORES) == pytest.approx(3 / 4)


def test_a_tie_is_half_a_win():
    assert image_auroc(np.array([0, 1, 1]), np.array([2.0, 2.0, 3.0])) == pytest.approx(1.5 / 2)


def test_ap_by_hand():
    assert image_ap(LABELS, SCORES) == pytest.approx((1 + 2 / 3) / 2)


def test_f1_max_by_hand():
    # At 0.35: both anomalous images and one normal one, precision 2/3, recall 1.
    assert image_f1_max(LABELS, SCORES) == pytest.approx(0.8)


@st.composite
def labelled_scores(draw):
    count = draw(st.integers(2, 20))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, 1)))
    assume(0 < labels.sum() < count)
    return labels, draw(arrays(np.int64, count, elements=st.integers(-3, 3))) / 2


@given(labelled_scores())
def test_f1_max_is_the_best_of_all_thresholds(sample):
    labels, scores = sample
    every = [f1_score(labels, scores >= t) for t in np.unique(scores)]
    assert image_f1_max(labels, scores) == pytest.approx(max(every))


def test_interval_by_hand():
    # Anomalous 1 and 3 against normal 2: a resample's AUROC is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4.
    labels, scores = np.array([1, 1, 0]), np.array([1.0, 3.0, 2.0])
    generator = np.random.default_rng(0)
    assert auroc_interval(labels, scores, 4000, generator, level=0.95) == (0.0, 1.0)
    assert auroc_interval(labels, scores, 4000, generator, level=0.4) == (0.5, 0.5)


def test_interval_keeps_each_label_to_its_count():
    # Were labels resampled together, some resamples would lack one.
    assert auroc_interval(np.array([0, 1]), np.array([1.0, 1.0]), 500, np.random.default_rng(0)) == (0.5, 0.5)


def test_without_an_error_the_interval_still_has_a_width():
    generator = np.random.default_rng(0)
    # One of each: (1 - A)^2 = z^2 A (1 - A), so A = 1 / (1 + z^2) with z = 1.959964.
    edge = 1 / (1 + 1.959964**2)
    assert auroc_interval(np.array([0, 1]), np.array([1.0, 2.0]), 500, generator) == pytest.approx((edge, 1))
    assert auroc_interval(np.array([1, 0]), np.array([1.0, 2.0]), 500, generator) == pytest.approx((0, 1 - edge))
    # 30 and 30 at A = 0.933: z^2 A (1 + 29 (1 - A) / (2 - A) + 29 A / (1 + A)) / 900 is 0.067.
    labels, scores = np.repeat([0, 1], 30), np.arange(60.0)
    low, high = auroc_interval(labels, scores, 500, generator)
    assert (low, high) == (pytest.approx(0.933, abs=1e-4), 1.0)
    # Groups count as images do; fewer of them say less.
    assert auroc_interval(labels, scores, 500, generator, groups=np.arange(60))[0] == low
    assert auroc_interval(labels, scores, 500, generator, groups=np.arange(60) // 10)[0] < 0.7
    assert auroc_interval(labels, scores, 500, generator, level=0.8)[0] > low


@pytest.mark.sample(1)
@pytest.mark.parametrize("draws", [1 << 20, 5000])
def test_interval_is_that_of_resampling_one_at_a_time(monkeypatch, draws):
    monkeypatch.setattr(ranking, "_DRAWS", draws)
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [40, 25])
    scores = np.round(rng.normal(size=65) + 0.8 * labels, 1)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    areas = [
        roc_auc_score(labels, np.concatenate([rng.choice(normal, 40), rng.choice(anomalous, 25)])) for _ in range(1500)
    ]
    found = auroc_interval(labels, scores, 20_000, np.random.default_rng(0), level=0.9)
    assert found == pytest.approx(np.quantile(areas, [0.05, 0.95]), abs=0.012)


@pytest.mark.parametrize("seed", range(5))
def test_one_resample_makes_an_interval_of_one_value(seed):
    low, high = auroc_interval(np.arange(40) % 2, np.arange(40.0), 1, np.random.default_rng(seed))
    assert low == high


def test_interval_is_repeatable():
    first, second = (auroc_interval(LABELS, SCORES, 200, np.random.default_rng(5)) for _ in range(2))
    assert first == second


@given(labelled_scores())
def test_detection_metrics_are_its_parts(sample):
    labels, scores = sample
    found = detection_metrics(labels, scores, 100, np.random.default_rng(0))
    low, high = auroc_interval(labels, scores, 100, np.random.default_rng(0))
    assert found == {
        "image_auroc": image_auroc(labels, scores),
        "image_ap": image_ap(labels, scores),
        "image_f1_max": image_f1_max(labels, scores),
        "image_auroc_low": low,
        "image_auroc_high": high,
    }


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.ones(3, int), np.zeros(0, int)])
def test_one_label_alone_leaves_every_metric_out(labels):
    found = detection_metrics(labels, np.arange(len(labels), dtype=float), 100, np.random.default_rng(0))
    assert len(found) == 5
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (LABELS, SCORES[:3], r"shape \(4,\) and scores \(3,\)"),
        (LABELS + 1, SCORES, r"labels are \[1, 2\]"),
        (LABELS, np.array([0, 1, np.nan, np.inf]), "2 scores are not finite, the first at position 2"),
        (LABELS * 0, np.array([0, 1, 2, np.nan]), "not finite"),
    ],
)
def test_unusable_scores_are_refused(labels, scores, message):
    with pytest.raises(InputError, match=message):
        detection_metrics(labels, scores, 100, np.random.default_rng(0))


@pytest.mark.parametrize("measure", [image_auroc, image_ap, image_f1_max])
def test_single_metrics_refuse_one_label_alone(measure):
    with pytest.raises(InputError, match="labels are all 1"):
        measure(np.ones(3, int), np.arange(3.0))


def test_accuracy_and_calibration_by_hand():
    # Confidences .9, .9 and .6, .6; of the first two one is right, of the others both:
    # the gaps |.9 - .5| and |.6 - 1| are .4 each, half of the images each.
    def logit(share: float) -> float:
        return math.log(share / (1 - share))

    logits = torch.tensor([[logit(0.9), 0.0], [logit(0.9), 0.0], [0.0, logit(0.6)], [0.0, logit(0.6)]])
    found = classification_metrics(logits, torch.tensor([0, 1, 1, 1]))
    assert found["accuracy"] == 0.75
    assert found["ece"] == pytest.approx(0.4, abs=1e-6)


def test_a_sure_and_right_classifier_is_calibrated():
    found = classification_metrics(torch.eye(3) * 100, torch.arange(3))
    assert found == {"accuracy": 1.0, "ece": pytest.approx(0, abs=1e-6)}


def test_lengths_that_differ():
    with pytest.raises(InputError, match="2 predictions for 3 labels"):
        classification_metrics(torch.zeros(2, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="0 predictions for 0 labels"):
        classification_metrics(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


def test_groups_are_drawn_whole_and_each_kind_to_its_own_count():
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    groups = np.array(["a", "a", "b", "b", "c", "d", "c", "e"])  # normal: a, d, e; both: b; anomalous: c
    drawn = draw_groups(labels, groups, 200, np.random.default_rng(0))
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, [4, 6]] == 1).all()
    assert (drawn[:, [2, 3]] == 1).all()
    assert (drawn[:, 0] + drawn[:, 5] + drawn[:, 7] == 3).all()
    scores = np.array([1.0, 2.0, 5.0, 4.0, 4.0, 3.0, 6.0, 4.0])
    areas = [image_auroc(np.repeat(labels, weights), np.repeat(scores, weights)) for weights in drawn]
    expected = tuple(np.quantile(areas, [0.025, 0.975]))
    found = auroc_interval(labels, scores, 200, np.random.default_rng(0), groups=groups)
    assert found == pytest.approx(expected)


def test_twins_narrow_no_interval_that_goes_by_groups():
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 30)
    scores = generator.normal(labels, 1.0)
    twins = np.repeat(labels, 20), np.repeat(scores, 20)
    single = np.ptp(auroc_interval(labels, scores, 2000, np.random.default_rng(0)))
    by_groups = np.ptp(auroc_interval(*twins, 2000, np.random.default_rng(0), groups=np.repeat(np.arange(60), 20)))
    assert by_groups == pytest.approx(single, rel=0.1)
    assert np.ptp(auroc_interval(*twins, 2000, np.random.default_rng(0))) < single / 3
