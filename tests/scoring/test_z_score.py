"""Values made comparable by one mean and deviation."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kdad.images.statistics import ChannelStatistics
from kdad.scoring.z_score import ZScore


def _of(*values: float) -> ZScore:
    statistics = ChannelStatistics()
    statistics.update(np.array(values, dtype=np.float32).reshape(-1, 1))
    return ZScore.of(statistics)


def test_mean_and_deviation_by_hand():
    standard = _of(1.0, 3.0)  # mean 2, deviation 1
    assert standard.normalise(torch.tensor([1.0, 2.0, 5.0])).tolist() == [-1.0, 0.0, 3.0]


def test_values_that_are_all_the_same_are_divided_by_one():
    assert _of(4.0, 4.0).normalise(torch.tensor([4.0, 6.0])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("sd", [0, -1, float("nan"), float("inf")])
def test_a_kept_spread_that_nothing_can_be_divided_by_is_refused(sd):
    with pytest.raises(ValidationError, match="sd"):
        ZScore(mean=0, sd=sd)


def test_no_value_is_no_standard():
    with pytest.raises(ValueError):
        ZScore.of(ChannelStatistics())


def test_values_that_are_not_finite_are_no_error_here():
    assert np.isnan(_of(1.0, np.nan).normalise(np.ones(1)))
