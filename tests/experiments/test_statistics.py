import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kdad.experiments.statistics import (
    holm,
    mcnemar,
    summarise_difference,
)
from kdad.metrics import ranking
from kdad.metrics.ranking import draw_groups, image_aurocs, pixel_aurocs


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_weighted_auroc_is_that_of_repeated_images(seed, levels):
    generator = np.random.default_rng(seed)
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = generator.integers(levels, size=7).astype(float)
    weights = draw_groups(labels, np.arange(labels.size), 4, generator)
    expected = [roc_auc_score(np.repeat(labels, row), np.repeat(scores, row)) for row in weights]
    np.testing.assert_allclose(image_aurocs(labels, scores, weights), expected)


def test_each_label_keeps_its_count():
    labels = np.array([0, 1, 0, 1, 1])
    weights = draw_groups(labels, np.arange(labels.size), 50, np.random.default_rng(0))
    assert (weights[:, labels == 0].sum(1) == 2).all()
    assert (weights[:, labels == 1].sum(1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 10


def test_pixel_auroc_from_histograms_is_that_of_repeated_images():
    generator = np.random.default_rng(1)
    values = generator.integers(8, size=(5, 30))
    masks = generator.random((5, 30)) < 0.3
    histogram = np.stack(
        [[np.bincount(v[m == kind], minlength=8) for v, m in zip(values, masks, strict=True)] for kind in (0, 1)]
    )
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 2], [0, 3, 0, 1, 1]])
    expected = [
        roc_auc_score(np.repeat(masks, row, axis=0).ravel(), np.repeat(values, row, axis=0).ravel()) for row in weights
    ]
    np.testing.assert_allclose(pixel_aurocs(*histogram, weights), expected)


def test_resamples_come_in_blocks_that_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    labels, scores = np.array([0, 1, 0, 1, 1, 0, 0]), generator.normal(size=7)
    normal, anomalous = generator.integers(1, 9, (2, 7, 3))
    weights = draw_groups(labels, np.arange(labels.size), 33, generator)
    whole = image_aurocs(labels, scores, weights), pixel_aurocs(normal, anomalous, weights)
    rows = []
    areas = ranking._areas
    monkeypatch.setattr(ranking, "_DRAWS", 40)
    monkeypatch.setattr(ranking, "_areas", lambda n, a: rows.append(len(n)) or areas(n, a))
    parts = image_aurocs(labels, scores, weights), pixel_aurocs(normal, anomalous, weights)
    np.testing.assert_array_equal(whole, parts)
    assert sum(rows) == 2 * 33
    assert max(rows) * 7 <= 50


def test_p_is_twice_the_smaller_tail():
    # Of 100 resamples, 3 lie at or below 0: p = 2 * 3 / 100.
    resampled = np.concatenate([np.full(3, -0.1), np.full(97, 0.2)])
    mean, low, high, p_value = summarise_difference(0.19, resampled)
    assert (mean, p_value) == (0.19, pytest.approx(0.06))
    assert low <= high


def test_p_is_never_0_and_1_without_a_difference():
    assert summarise_difference(0.2, np.full(999, 0.2))[3] == pytest.approx(1 / 1000)
    assert summarise_difference(0.0, np.zeros(10))[3] == 1


def test_holm_by_hand():
    # Sorted .01 .02 .04 times 3, 2, 1: .03, .04, .04; running maximum; in the given order.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1.0, 1.0])


def test_mcnemars_exact_test_is_of_a_fair_coin():
    # 2 of 10 or fewer, or 8 or more: 2 (1 + 10 + 45) / 2 ** 10.
    assert mcnemar(2, 8) == mcnemar(8, 2) == pytest.approx(112 / 1024)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
