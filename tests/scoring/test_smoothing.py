import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from torch.nn.functional import interpolate

from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import (
    band_blocks,
    clip_peaks,
    elliptic_element,
    filter_axes,
    gaussian_filter,
    grey_opening,
    smooth,
    smooth_all,
    upsample,
)


def filtered(step, maps: np.ndarray, *given) -> np.ndarray:
    """Return arrays that pass through a step, which leaves what it takes alone."""
    before = torch.from_numpy(maps.copy())
    after = step(before, *given).numpy()
    np.testing.assert_array_equal(before, maps)
    return after


def random_maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).gamma(0.5, size=shape).astype(np.float32)


def filter_by_hand(anomaly_map, sigma):
    """Convolve rows, then columns, with a Gaussian sampled to 4 sigma, over a mirrored border."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(anomaly_map, pad, mode="symmetric")
        anomaly_map = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return anomaly_map


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_gaussian_filters_each_map_alone(sigma):
    maps = np.random.default_rng(0).random((3, 20, 15), dtype=np.float32)
    maps[1] = 0
    found = filtered(gaussian_filter, maps, sigma)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_allclose(found, [filter_by_hand(m.astype(float), sigma) for m in maps], atol=1e-6)


def test_sigma_0_changes_nothing():
    maps = np.random.default_rng(0).random((2, 5, 6), dtype=np.float32)
    np.testing.assert_array_equal(filtered(gaussian_filter, maps, 0), maps)


@pytest.mark.parametrize("sigma", [0.4, 4.0, 20.0])  # of the last, the kernel is longer than the map
@pytest.mark.parametrize("size", [(24, 24), (17, 40), (300, 520)])  # the last in several blocks
def test_gaussian_is_scipys(sigma, size):
    maps = random_maps(3, *size)
    expected = ndimage.gaussian_filter(maps, (0, sigma, sigma), mode="reflect", truncate=4.0)
    np.testing.assert_allclose(filtered(gaussian_filter, maps, sigma), expected, rtol=2e-6, atol=1e-7)


def test_elements_by_hand():
    np.testing.assert_array_equal(elliptic_element(1), [[1]])
    np.testing.assert_array_equal(elliptic_element(3), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    np.testing.assert_array_equal(
        elliptic_element(5), [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]
    )
    # Half widths by row: 0, sqrt(5) = 2.2, sqrt(8) = 2.8, 3.
    assert elliptic_element(7).sum(axis=1).tolist() == [1, 5, 7, 7, 7, 5, 1]


def test_opening_by_hand():
    lone_pixel = np.zeros((5, 5), dtype=np.float32)
    lone_pixel[2, 2] = 9
    plus = np.zeros((5, 5), dtype=np.float32)
    plus[2, 1:4] = plus[1:4, 2] = 4
    plus[2, 2] = 9
    # The lone pixel goes; the plus stays, its peak lowered to what the whole cross reaches.
    found = filtered(grey_opening, np.stack([lone_pixel, plus]), 3)
    np.testing.assert_array_equal(found, [0 * plus, np.minimum(plus, 4)])


def test_size_0_changes_nothing_and_size_1_neither():
    maps = np.random.default_rng(0).random((2, 5, 6), dtype=np.float32)
    np.testing.assert_array_equal(filtered(grey_opening, maps, 0), maps)
    np.testing.assert_array_equal(filtered(grey_opening, maps, 1), maps)


@pytest.mark.parametrize("size", [3, 5, 7, 13])
def test_opening_is_scipys(size):
    maps = random_maps(3, 17, 40) - 1
    expected = ndimage.grey_opening(maps, footprint=elliptic_element(size)[None], mode="reflect")
    np.testing.assert_array_equal(filtered(grey_opening, maps, size), expected)


@given(arrays(np.int8, (2, 9, 8), elements=st.integers(0, 4)), st.sampled_from([3, 5, 7]))
def test_opening_commutes_with_thresholding(values, size):
    maps = values.astype(np.float32)
    opened = filtered(grey_opening, maps, size)
    element = elliptic_element(size)
    assert opened.dtype == np.float32
    for threshold in np.unique(maps):
        for anomaly_map, result in zip(maps, opened, strict=True):
            # A border value of 1 when eroding and 0 when dilating: pixels beyond the border have no say.
            eroded = ndimage.binary_erosion(anomaly_map >= threshold, element, border_value=1)
            np.testing.assert_array_equal(result >= threshold, ndimage.binary_dilation(eroded, element))


def test_clip_lowers_each_map_to_its_own_quantile():
    maps = np.stack([np.arange(101.0), 10 * np.arange(101.0)]).reshape(2, 1, 101).astype(np.float32)
    clipped = filtered(clip_peaks, maps, 0.9)
    assert clipped.max((1, 2)).tolist() == [90, 900]
    np.testing.assert_array_equal(clipped[:, 0, :90], maps[:, 0, :90])
    unclipped = torch.from_numpy(maps)
    assert clip_peaks(unclipped, 1) is unclipped


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.99])
def test_clip_is_numpys_quantile(quantile):
    maps = random_maps(3, 17, 40)
    expected = np.minimum(maps, np.quantile(maps, quantile, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(filtered(clip_peaks, maps, quantile), expected, rtol=1e-6)


def test_steps_come_in_the_published_order():
    maps = np.random.default_rng(1).random((2, 16, 16), dtype=np.float32) ** 8
    steps = SmoothingParameters(clip_quantile=0.9, gaussian_sigma=1.0, opening_size=3)
    by_hand = np.minimum(maps, np.quantile(maps, 0.9, axis=(1, 2), keepdims=True))
    by_hand = np.stack([ndimage.gaussian_filter(m, 1.0) for m in by_hand])
    by_hand = np.stack([ndimage.grey_opening(m, footprint=elliptic_element(3)) for m in by_hand])
    np.testing.assert_allclose(filtered(smooth, maps, steps), by_hand, rtol=1e-5)


def test_maps_that_lie_in_a_file_are_smoothed_and_stay_as_they_were(tmp_path):
    maps = np.random.default_rng(0).random((19, 12, 14), dtype=np.float32)
    np.save(tmp_path / "gradients.npy", maps)
    stack = np.load(tmp_path / "gradients.npy", mmap_mode="r")
    smoothed = smooth_all(stack, SmoothingParameters(gaussian_sigma=1.5))
    np.testing.assert_allclose(smoothed, ndimage.gaussian_filter(maps, (0, 1.5, 1.5)), rtol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "gradients.npy"), maps)


@pytest.mark.parametrize("size", [(8, 12), (16, 12), (9, 40), (8, 13), (3, 5), (900, 700)])
def test_upsampling_is_torchs(size):
    maps = torch.rand(3, 8, 12)
    expected = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample(maps, size), expected, rtol=0, atol=2e-7)


def test_of_many_pixels_positions_are_torchs_too():
    maps = torch.rand(1, 256, 200)
    expected = interpolate(maps[:, None], (900, 1700), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample(maps, (900, 1700)), expected, rtol=0, atol=1e-6)


def test_rows_by_hand():
    # Of two pixels at 0.5 and 1.5, four lie at 0.25, 0.75, 1.25 and 1.75; the outer ones keep the border's value.
    two = torch.tensor([[[0.0], [4.0]]])
    assert upsample(two, (4, 1)).flatten().tolist() == [0, 1, 3, 4]
    assert upsample(two.mT, (3, 4)).tolist() == [[[0, 1, 3, 4]] * 3]


def _random_band(rows: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which three of `side` pixels each row takes in, near its own place, and with which weights."""
    generator = np.random.default_rng(rows)
    nearest = np.linspace(0, side - 1, rows).astype(int)
    sources = np.clip(nearest[:, None] + generator.integers(-4, 5, (rows, 3)), 0, side - 1)
    return sources, generator.normal(size=(rows, 3))


def _matrix(sources: np.ndarray, weights: np.ndarray, side: int) -> np.ndarray:
    matrix = np.zeros((len(sources), side))
    for row in range(len(sources)):
        for source, weight in zip(sources[row], weights[row], strict=True):
            matrix[row, source] += weight
    return matrix


@pytest.mark.parametrize(("rows", "side"), [(5, 9), (256, 40), (257, 300), (700, 20), (1, 1)])
def test_blocks_are_the_matrix(rows, side):
    maps = np.random.default_rng(0).normal(size=(2, side, 7))
    down, across = _random_band(rows, side), _random_band(11, 7)
    expected = _matrix(*down, side) @ maps @ _matrix(*across, 7).T
    found = filter_axes(torch.from_numpy(maps).float(), band_blocks(*down), band_blocks(*across))
    assert found.shape == (2, rows, 11)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_blocks_hold_the_band_alone():
    blocks = band_blocks(*_random_band(4096, 4096))
    assert len(blocks) == 16
    assert all(weights.shape[1] < 256 + 10 for _, _, weights in blocks)


def test_of_a_region_peaks_are_its_own_and_outside_is_its_lowest_value():
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 9)).astype(np.float32))
    region = np.random.default_rng(1).random((12, 9)) < 0.6
    found = smooth(maps, SmoothingParameters(clip_quantile=0.9), region).numpy()
    for one, smoothed in zip(maps.numpy(), found, strict=True):
        inside = one[region]
        np.testing.assert_allclose(smoothed[region], np.minimum(inside, np.quantile(inside, 0.9)), rtol=1e-6)
        assert (smoothed[~region] == inside.min()).all()
    np.testing.assert_array_equal(smooth_all(maps.numpy(), SmoothingParameters(clip_quantile=0.9), region), found)
    rule = ImageScore("map", "map_top_mean", top_fraction=0.1 * region.mean())
    count = round(0.1 * region.sum())
    expected = [np.sort(one[region])[-count:].mean() for one in found]
    np.testing.assert_allclose(rule.of_maps(torch.from_numpy(found)), expected, rtol=1e-6)
