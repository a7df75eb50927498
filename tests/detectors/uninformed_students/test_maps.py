"""Regression error, predictive variance, their normalisation, fusion and spreading, against arithmetic on paper."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.uninformed_students.maps import (
    every_part,
    fuse_maps,
    parts_of,
    predictive_variance,
    regression_error,
    spread_grid,
)
from kdad.images.image_set import ChannelStatistics
from kdad.scoring.per_pixel import ZScore

#: Two students at one position of one image, three channels: means (2, 1, 0), halves of the differences (1, 1, 0).
_PREDICTIONS = torch.tensor([[1.0, 0.0, 0.0], [3.0, 2.0, 0.0]]).view(1, 2, 3, 1, 1)


def standard_of(values: np.ndarray) -> ZScore:
    """Return the mean and deviation of all values."""
    statistics = ChannelStatistics()
    statistics.update(np.asarray(values).reshape(-1, 1))
    return ZScore.of(statistics)


def test_regression_error_by_hand():
    targets = torch.tensor([1.0, 1.0, 2.0]).view(1, 3, 1, 1)
    # (2 - 1)^2 + (1 - 1)^2 + (0 - 2)^2
    assert regression_error(_PREDICTIONS, targets).tolist() == [[[5.0]]]


def test_predictive_variance_by_hand():
    # (1 + 13) / 2 - (4 + 1)
    assert predictive_variance(_PREDICTIONS).tolist() == [[[2.0]]]


def test_every_position_of_every_image_has_its_own_value():
    predictions, targets = torch.zeros(2, 2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    predictions[1, :, :, 2, 3] = _PREDICTIONS[0, :, :, 0, 0]
    expected = torch.zeros(2, 4, 5)
    expected[1, 2, 3] = 5.0  # 4 + 1 + 0
    assert torch.equal(regression_error(predictions, targets), expected)
    expected[1, 2, 3] = 2.0
    assert torch.equal(predictive_variance(predictions), expected)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6))
def test_predictive_variance_is_the_published_difference(seed, students, depth):
    generator = torch.Generator().manual_seed(seed)
    predictions = torch.randn(2, students, depth, 3, 2, generator=generator, dtype=torch.float64)
    mean = predictions.mean(dim=1)
    published = predictions.square().sum(dim=2).mean(dim=1) - mean.square().sum(dim=1)
    torch.testing.assert_close(predictive_variance(predictions), published, rtol=0, atol=1e-12)


def test_predictive_variance_of_one_student_is_exactly_0():
    predictions = 1000 * torch.randn(2, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert (predictive_variance(predictions) == 0).all()


def test_predictive_variance_of_students_that_agree_far_from_0_is_not_lost():
    predictions = 1e4 + _PREDICTIONS
    assert predictive_variance(predictions).item() == 2.0


def test_map_constants_by_hand():
    maps = np.array([[[1.0, 3.0]], [[5.0, 7.0]]], dtype=np.float32)
    # mean 16 / 4; squared distances 9 + 1 + 1 + 9 over 4
    constants = standard_of(maps)
    assert constants == ZScore(mean=4.0, sd=5**0.5)
    normalised = constants.normalise(torch.from_numpy(maps))
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.flatten(), np.array([-3, -1, 1, 3]) / 5**0.5, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_a_constant_map_has_sd_1(value):
    constants = standard_of(np.full((2, 4, 4), value, dtype=np.float32))
    assert (constants.mean, constants.sd) == (pytest.approx(value), 1.0)
    assert constants.normalise(torch.full((1, 1, 1), value + 2)).item() == pytest.approx(2)


def test_fusion_of_two_scales_by_hand():
    def one(value, mean, sd):
        return torch.full((1, 1, 1), value), ZScore(mean=mean, sd=sd)

    e17, v17 = one(5.0, 1.0, 2.0), one(3.0, 0.0, 1.0)  # 2 and 3
    e33, v33 = one(0.0, 1.0, 0.5), one(6.0, 2.0, 4.0)  # -2 and 1
    assert fuse_maps([e17, v17, e33, v33], scales=2).tolist() == [[[2.0]]]  # (2 + 3 - 2 + 1) / 2
    assert fuse_maps([e17, v17], scales=1).tolist() == [[[5.0]]]
    assert fuse_maps([e17, e33], scales=2).tolist() == [[[0.0]]]


_SIZES = [(9, 9), (8, 8), (10, 7), (11, 12), (5, 6)]


def _known(size, stride) -> np.ndarray:
    shape = (3, *(-(-side // stride) for side in size))
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_spreading_keeps_known_pixels(size, stride):
    maps = _known(size, stride)
    found = spread_grid(torch.from_numpy(maps), stride, size).numpy()
    assert found.shape == (3, *size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, ::stride, ::stride], maps, atol=1e-6)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("stride", [2, 4])
def test_spreading_is_linear_between_known_pixels_and_repeats_after_the_last(size, stride):
    maps = _known(size, stride)
    expected = maps
    for axis, side in ((1, size[0]), (2, size[1])):
        # np.interp repeats the last value beyond it.
        places = np.arange(expected.shape[axis]) * stride
        expected = np.apply_along_axis(
            lambda line, at, side=side: np.interp(np.arange(side), at, line), axis, expected, places
        )
    np.testing.assert_allclose(spread_grid(torch.from_numpy(maps), stride, size), expected, atol=1e-6)


def test_spreading_by_hand():
    maps = torch.tensor([[[0.0, 4.0, 2.0]]])
    row = [0, 1, 2, 3, 4, 3.5, 3, 2.5, 2, 2, 2, 2]
    assert spread_grid(maps, 4, (3, 12)).tolist() == [[row] * 3]
    assert spread_grid(maps, 4, (1, 9)).tolist() == [[row[:9]]]
    assert spread_grid(maps, 2, (2, 6)).tolist() == [[[0, 2, 4, 3, 2, 2]] * 2]


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("combined", [17, 33], ["e_p17", "v_p17", "e_p33", "v_p33"]),
        ("regression_error", [17, 33], ["e_p17", "e_p33"]),
        ("predictive_variance", [33], ["v_p33"]),
        ("combined_p33", [17, 33], ["e_p33", "v_p33"]),
        ("combined_p33", [33], []),
        ("combined_p65", [17, 33], []),
    ],
)
def test_what_a_map_adds_up(method, fields, expected):
    assert parts_of(method, fields) == expected


def test_every_part():
    assert every_part([17, 65]) == ["e_p17", "v_p17", "e_p65", "v_p65"]
