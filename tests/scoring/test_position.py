"""Standardising at each position, against NumPy at once and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdad.scoring.position import PositionMoments, PositionStatistics


def statistics_of(*batches) -> PositionStatistics:
    found = PositionStatistics()
    for maps in batches:
        found.update(torch.as_tensor(np.asarray(maps, dtype=np.float32)))
    return found


@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_streamed_statistics_are_those_of_all_maps_at_once(seed, counts):
    maps = np.random.default_rng(seed).gamma(2, 3, (sum(counts), 3, 5)).astype(np.float32)
    found = statistics_of(*np.split(maps, np.cumsum(counts)[:-1]))
    np.testing.assert_allclose(found.mean, maps.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.variance, maps.var(0, dtype=np.float64), rtol=1e-9, atol=1e-12)


def test_large_values_that_hardly_differ_keep_their_variance():
    maps = 1e4 + np.random.default_rng(0).normal(size=(500, 2, 2)).astype(np.float32)
    found = statistics_of(*np.array_split(maps, 7))
    np.testing.assert_allclose(found.variance, maps.var(0, dtype=np.float64), rtol=1e-9)


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) cannot be combined with those of \(2, 2\)"):
        statistics_of(np.ones((1, 2, 2)), np.ones((1, 2, 3)))


def test_by_hand_where_training_and_held_out_images_are_alike():
    # At the left 1 and 3: mean 2, variance 1. At the right 6 and 6: mean 6, variance 0.
    maps = [[[1.0, 6.0]], [[3.0, 6.0]]]
    found = PositionMoments.combine(statistics_of(maps), statistics_of(maps))
    # All four values have mean 4 and variance (9 + 1 + 4 + 4) / 4 = 4.5; a fifth of its root is added.
    floor = 0.2 * 4.5**0.5
    np.testing.assert_allclose(found.mean, [[2.0, 6.0]])
    np.testing.assert_allclose(found.spread, [[1 + floor, floor]], rtol=1e-6)
    z = found.normalise(torch.tensor([[[2.0, 7.0]]]))
    np.testing.assert_allclose(z, [[[0.0, 1 / floor]]], rtol=1e-6)


def test_by_hand_where_training_images_are_too_good():
    training = [[[1.0, 2.0]], [[3.0, 2.0]]]  # means 2 and 2, variances 1 and 0
    held_out = [[[4.0, 8.0]], [[8.0, 4.0]]]  # means 6 and 6: three times as much
    found = PositionMoments.combine(statistics_of(training), statistics_of(held_out))
    np.testing.assert_allclose(found.mean, [[6.0, 6.0]])
    # Held-out values are 2 away from 6 everywhere: squares of 4 on average, where training has (1 + 0) / 2.
    widening, floor = (4 / 0.5) ** 0.5, 0.2 * 2
    np.testing.assert_allclose(found.spread, [[widening * 1 + floor, floor]], rtol=1e-6)


def test_by_hand_a_map_learnt_by_heart_counts_for_less():
    training, held_out = [[[1.0, 2.0]], [[3.0, 2.0]]], [[[4.0, 8.0]], [[8.0, 4.0]]]  # held-out is three times as much
    plain, weighed = (
        PositionMoments.combine(statistics_of(training), statistics_of(held_out), weigh=weigh)
        for weigh in (False, True)
    )
    np.testing.assert_allclose(weighed.spread, 81 * plain.spread, rtol=1e-6)
    np.testing.assert_array_equal(weighed.mean, plain.mean)
    # Held-out images that are judged better than training ones, by chance, count for no more.
    turned = PositionMoments.combine(statistics_of(held_out), statistics_of(training), weigh=True)
    expected = PositionMoments.combine(statistics_of(held_out), statistics_of(training))
    np.testing.assert_array_equal(turned.spread, expected.spread)


@given(st.integers(0, 2**32), st.floats(1.5, 4.0))
def test_a_network_too_good_by_a_factor_changes_nothing(seed, factor):
    maps = np.random.default_rng(seed).gamma(2, 3, (40, 3, 4)).astype(np.float32)
    expected = PositionMoments.combine(statistics_of(maps), statistics_of(maps))
    found = PositionMoments.combine(statistics_of(maps / np.float32(factor)), statistics_of(maps))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(found.spread, expected.spread, rtol=1e-4)


def test_held_out_maps_have_mean_0_over_all_positions():
    generator = np.random.default_rng(0)
    training, held_out = generator.gamma(2, 1, (60, 4, 4)), generator.gamma(2, 2, (20, 4, 4))
    found = PositionMoments.combine(statistics_of(training), statistics_of(held_out))
    assert (held_out - found.mean.numpy()).mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_stays_finite(value):
    maps = np.full((3, 2, 2), value)
    found = PositionMoments.combine(statistics_of(maps), statistics_of(maps))
    assert (found.normalise(torch.full((1, 2, 2), value)) == 0).all()
    assert (found.spread == 1).all()


@pytest.mark.parametrize(
    ("mean", "spread", "message"),
    [
        (torch.zeros(2, 3), torch.ones(2, 2), r"moments of \(2, 3\) for maps of \(2, 2\)"),
        (torch.zeros(2, 2), torch.ones(1, 2), r"moments of \(1, 2\)"),
        (torch.full((2, 2), torch.nan), torch.ones(2, 2), "not finite"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "not above 0"),
    ],
)
def test_moments_that_do_not_fit_are_refused(mean, spread, message):
    with pytest.raises(ValueError, match=message):
        PositionMoments(mean, spread).check((2, 2))
