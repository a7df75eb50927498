"""Streaming statistics against arithmetic on paper and two passes over all values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdad.images.image_set import ChannelStatistics, measure_channels
from memory_images import MemoryImages

VALUES = arrays(
    np.float64, st.tuples(st.integers(1, 7), st.just(2), st.just(2), st.just(3)), elements=st.floats(-1e3, 1e3)
)


def measured(*batches: np.ndarray) -> ChannelStatistics:
    statistics = ChannelStatistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


def test_by_hand():
    # channel 0: 1, 3, 5, 7 -> mean 4, variance (9 + 1 + 1 + 9) / 4 = 5; channel 1: constant 2
    first = np.array([[[[1.0, 3.0]], [[2.0, 2.0]]]])
    second = np.array([[[[5.0, 7.0]], [[2.0, 2.0]]]])
    statistics = measured(first, second)
    assert statistics.count == 4
    assert statistics.mean.tolist() == [4.0, 2.0]
    np.testing.assert_allclose(statistics.sd, [np.sqrt(5), 0.0], rtol=1e-15)


@settings(deadline=None, max_examples=60)
@given(VALUES, st.data())
def test_streaming_equals_two_passes(values, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    statistics = measured(*np.split(values, cuts))
    np.testing.assert_allclose(statistics.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(statistics.sd, values.std(axis=(0, 2, 3)), rtol=1e-9, atol=1e-9)


def test_float32_far_from_zero_keeps_its_spread():
    # A sum of squares in float32 would lose the spread of 1 around 10,000 altogether.
    values = np.float32(10_000) + np.tile(np.float32([-1, 1]), 50_000).reshape(10, 1, 100, 100)
    statistics = measured(*np.split(values, 10))
    np.testing.assert_allclose(statistics.sd, [1.0], rtol=1e-9)
    assert statistics.mean.dtype == np.float64


def test_an_empty_batch_changes_nothing():
    statistics = measured(np.zeros((0, 1, 1, 2)), np.array([[[[2.0, 4.0]]]]), np.zeros((0, 1, 1, 2)))
    assert (statistics.count, statistics.mean.tolist(), statistics.sd.tolist()) == (2, [3.0], [1.0])


def test_what_was_read_does_not_change_with_what_is_read_next():
    statistics = measured(np.array([[[[2.0, 4.0]]]]))
    mean = statistics.mean
    statistics.update(np.array([[[[100.0]]]]))
    assert mean.tolist() == [3.0]


def test_channels_of_an_image_set_are_measured_over_the_rows_alone():
    images = MemoryImages()
    rows = np.array([1, 4, 7])
    found = measure_channels(images, rows)
    chosen = images.pixels[rows].astype(np.float64)
    np.testing.assert_allclose(found["mean"], chosen.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(found["sd"], chosen.std(axis=(0, 2, 3)), rtol=1e-9)
    assert found["images"] == 3
