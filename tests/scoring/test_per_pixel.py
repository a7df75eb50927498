"""Standardising at each position by training images, against NumPy at once and by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from kdad.images.image_set import ChannelStatistics
from kdad.images.splits import Split
from kdad.scoring.per_pixel import PixelStats, ZScore, measure_map, measure_moments, measured_rows, take_map_moments

#: Maps of five images, `(5, 1, 2)`; the first two train, the others are held out or tested.
_MAPS = torch.tensor([[[1.0, 6.0]], [[3.0, 6.0]], [[500.0, -3.0]], [[7.0, 7.0]], [[9.0, 0.0]]])


def _split(*parts: str) -> Split:
    return Split(pd.DataFrame({"id": [str(row) for row in range(len(parts))], "split": parts}))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_by_hand_of_training_images_alone(batch_size):
    split = _split("train", "train", "validation", "test", "test")
    found = measure_moments(
        measured_rows(split), lambda rows: {"one": _MAPS[rows], "ten": 10 * _MAPS[rows]}, batch_size
    )
    # At the left 1 and 3: mean 2, variance 1. At the right 6 and 6: mean 6, variance 0.
    # All four values have mean 4 and variance (9 + 1 + 4 + 4) / 4 = 4.5; a fifth of its root is added.
    floor = 0.2 * 4.5**0.5
    np.testing.assert_allclose(found["one"].mean, [[2.0, 6.0]])
    np.testing.assert_allclose(found["one"].spread, [[1 + floor, floor]], rtol=1e-6)
    np.testing.assert_allclose(found["ten"].spread, [[10 + 10 * floor, 10 * floor]], rtol=1e-6)
    z = found["one"].normalise(torch.tensor([[[2.0, 7.0]]]))
    np.testing.assert_allclose(z, [[[0.0, 1 / floor]]], rtol=1e-6)


def test_each_category_of_a_united_set_has_moments_by_its_own_training_images():
    split = _split("train", "train", "validation", "train", "train")
    united = Split(split.table.assign(member=["a", "b", "b", "b", "a"]))
    mapped = []

    def map_of(rows):
        mapped.extend(rows.tolist())
        return _MAPS[rows]

    found = measure_map(united, map_of, 0, 2)
    assert mapped == [0, 1, 3, 4]  # each once, though "a" and all take in some of the same
    np.testing.assert_allclose(found.of_all.mean, [[5.0, 4.75]])  # of 1 3 7 9, and of 6 6 7 0
    means = {name: one.mean.tolist() for name, one in found.by_category.items()}
    assert means == {"a": [[5.0, 3.0]], "b": [[5.0, 6.5]]}
    assert measure_map(split, lambda rows: _MAPS[rows], 0, 2).by_category == {}
    torch.testing.assert_close(found.of_all.restore(found.normalise(_MAPS)), _MAPS)
    torch.testing.assert_close(found.of("b").normalise(_MAPS), found.by_category["b"].normalise(_MAPS))
    kept = take_map_moments(found.state("map"), "map", (1, 2), "per_pixel", "normalisation")
    assert {name: one.mean.tolist() for name, one in kept.by_category.items()} == means
    assert kept.of_all.spread.tolist() == found.of_all.spread.tolist()


def test_large_values_that_hardly_differ_keep_their_spread():
    maps = 1e4 + torch.from_numpy(np.random.default_rng(0).normal(size=(500, 2, 2)).astype(np.float32))
    found = measure_moments(np.arange(500), lambda rows: {"map": maps[rows]}, 7)["map"]
    expected = maps.double().std(0, correction=0) + 0.2 * maps.double().std(correction=0)
    np.testing.assert_allclose(found.spread, expected, rtol=1e-5)


def test_at_most_so_many_training_images_are_looked_at_evenly_spaced():
    split = _split(*["train", "validation"] * 100)
    assert measured_rows(split, 4).tolist() == [0, 66, 132, 198]
    assert measured_rows(split).tolist() == list(range(0, 200, 2))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_stays_finite(value):
    maps = torch.full((3, 2, 2), value)
    found = measure_moments(np.arange(3), lambda rows: {"map": maps[rows]}, 2)["map"]
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
        PixelStats(mean, spread).check((2, 2))


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


def test_values_that_are_not_finite_are_no_error_here():
    assert np.isnan(_of(1.0, np.nan).normalise(np.ones(1)))
