"""Products with blocks of a banded matrix, against the whole matrix."""

import numpy as np
import pytest
import torch

from kdad.scoring.banded import band_blocks, filter_axes


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
