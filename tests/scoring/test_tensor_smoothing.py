import numpy as np
import pytest
import torch

from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import smooth
from kdad.scoring.tensor_smoothing import Smoothing, clip_peaks, gaussian_matrix


def _maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).gamma(0.5, size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"gaussian_sigma": 0.4},
        {"gaussian_sigma": 4.0},
        {"gaussian_sigma": 20.0},  # the kernel is longer than the map
        {"clip_quantile": 0.99},
        {"clip_quantile": 0.5},
        {"opening_size": 1},
        {"opening_size": 3},
        {"opening_size": 7},
        {"clip_quantile": 0.9, "gaussian_sigma": 1.5, "opening_size": 5},
    ],
)
@pytest.mark.parametrize("size", [(24, 24), (17, 40)])
def test_filters_on_tensors_are_scipys(steps, size):
    maps, parameters = _maps(3, *size), SmoothingParameters(**steps)
    found = Smoothing(parameters, size)(torch.from_numpy(maps)).numpy()
    np.testing.assert_allclose(found, smooth(maps, parameters), rtol=2e-6, atol=1e-7)


def test_a_gaussian_matrix_reflects_at_borders_and_keeps_sums():
    matrix = gaussian_matrix(9, 1.0).double()
    np.testing.assert_allclose(matrix.sum(1), np.ones(9), atol=1e-6)
    kernel = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    kernel /= kernel.sum()
    # The first pixel sees itself and its mirror image, which lies just beyond the border.
    np.testing.assert_allclose(matrix[0, :2], [kernel[4] + kernel[3], kernel[5] + kernel[2]], atol=1e-6)


def test_clipping_takes_each_maps_own_quantile():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 8.0]]])
    # Of four sorted values the 0.5 quantile lies in the middle of the second and the third.
    assert clip_peaks(maps, 0.5).tolist() == [[[0.0, 1.0], [1.5, 1.5]], [[0.0, 0.0], [0.0, 0.0]]]
