"""Values made comparable by those of held-out images."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from kdad.images.splits import Split
from kdad.images.statistics import ChannelStatistics
from kdad.scoring.standard import Standard, standardise_scores


def _of(*values: float) -> Standard:
    statistics = ChannelStatistics()
    statistics.update(np.array(values, dtype=np.float32).reshape(-1, 1))
    return Standard.of(statistics)


def test_mean_and_deviation_by_hand():
    standard = _of(1.0, 3.0)  # mean 2, deviation 1
    assert standard.normalise(np.array([1.0, 2.0, 5.0])).tolist() == [-1.0, 0.0, 3.0]


def test_values_that_are_all_the_same_are_divided_by_one():
    assert _of(4.0, 4.0).normalise(np.array([4.0, 6.0])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("sd", [0, -1, float("nan"), float("inf")])
def test_a_kept_spread_that_nothing_can_be_divided_by_is_refused(sd):
    with pytest.raises(ValidationError, match="sd"):
        Standard(mean=0, sd=sd)


def test_no_value_is_no_standard():
    with pytest.raises(ValueError):
        Standard.of(ChannelStatistics())


def test_scores_are_standardised_by_held_out_images_alone_whatever_the_batches():
    images = pd.DataFrame({"id": list("abcde"), "label": [0, 0, 0, 0, 1], "kind": "good"})
    split = Split(images.assign(split=["train", "validation", "validation", "validation", "test"]))
    # Maxima of rows 0 to 4: 100, 1, 3, 8, 1000; of the held-out ones mean 4 and variance (9 + 1 + 16) / 3.
    maps = np.array([100, 1, 3, 8, 1000], dtype=np.float32).reshape(-1, 1, 1) * np.array([[0.5, 1.0]], dtype=np.float32)

    def maps_of(rows):
        return {"one": maps[rows], "ten": 10 * maps[rows]}

    for size in (1, 2, 3):
        found = standardise_scores(split, maps_of, "map_maximum", 1.0, size)
        assert list(found) == ["one", "ten"]
        assert (found["one"].mean, found["ten"].mean) == pytest.approx((4.0, 40.0))
        assert found["one"].sd ** 2 == pytest.approx(26 / 3)
        assert found["ten"].sd == pytest.approx(10 * found["one"].sd)


def test_values_that_are_not_finite_are_no_error_here():
    assert np.isnan(Standard.measure(np.array([1.0, np.nan])).mean)
    assert np.isnan(_of(1.0, np.nan).normalise(np.ones(1)))


def test_measured_at_once_and_streamed_are_the_same():
    values = np.random.default_rng(0).gamma(2, 3, (4, 5)).astype(np.float32)
    at_once, streamed = Standard.measure(values), _of(*values.ravel())
    assert (at_once.mean, at_once.sd) == pytest.approx((streamed.mean, streamed.sd), rel=1e-6)
