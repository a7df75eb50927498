"""Standardising by held-out values, by hand."""

import numpy as np
import pytest
from pydantic import ValidationError

from kdad.detectors.committee.standard import Standard
from kdad.images.statistics import ChannelStatistics


def standard_of(*batches: list[float]) -> Standard:
    values = ChannelStatistics()
    for batch in batches:
        values.update(np.reshape(batch, (-1, 1)))
    return Standard.of(values)


def test_by_hand_over_all_batches():
    found = standard_of([1.0, 3.0], [5.0], [7.0])
    # Mean 4; (9 + 1 + 1 + 9) / 4 = 5.
    assert (found.mean, found.sd) == (4.0, pytest.approx(5**0.5))
    np.testing.assert_allclose(found.apply(np.array([[4.0, 9.0]])), [[0.0, 5**0.5]])


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0]])
def test_values_that_are_all_the_same_divide_by_one(values):
    np.testing.assert_array_equal(standard_of(values).apply(np.array([2.0, 5.0])), [0.0, 3.0])


@pytest.mark.parametrize("sd", [0, -1, float("nan"), float("inf")])
def test_a_kept_spread_that_nothing_can_be_divided_by_is_refused(sd):
    with pytest.raises(ValidationError, match="sd"):
        Standard(mean=0, sd=sd)
