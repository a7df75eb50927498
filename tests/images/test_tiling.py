"""Tiles cover an image, share what they should, and their weights are a partition of unity."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.errors import InputError
from kdad.images.tiling import TileGrid, Tiling
from kdad.parameters.dataset import TileParameters


@settings(deadline=None, max_examples=150)
@given(
    own=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    share=st.floats(0, 0.5),
)
def test_weights_sum_to_one_everywhere_and_neighbours_share_enough(own, size, share):
    overlap = int(share * min(size))
    grid = TileGrid(own, Tiling(size, overlap))
    total, tops, lefts = np.zeros(own), set(), set()
    for number in grid:
        box, weights = grid.boxes[number], grid.weights(number)
        assert weights.shape == (box.height, box.width) == (min(size[0], own[0]), min(size[1], own[1]))
        assert box.top >= 0 and box.top + box.height <= own[0] and box.left >= 0 and box.left + box.width <= own[1]
        assert weights.min() >= 0
        box.cut(total)[...] += weights
        tops.add(box.top)
        lefts.add(box.left)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for starts, side in ((sorted(tops), size[0]), (sorted(lefts), size[1])):
        assert all(later - one <= side - overlap for one, later in pairwise(starts))
    assert len(grid) == len(tops) * len(lefts)


def test_tiles_by_hand():
    grid = TileGrid((10, 22), Tiling((10, 10), 4))
    assert [(box.top, box.left) for box in grid.boxes] == [(0, 0), (0, 6), (0, 12)]
    first, second = grid.weights(0)[0], grid.weights(1)[0]
    np.testing.assert_allclose(first[:7], 1)  # pixel 6, an eighth into the shared four, is the first tile's alone
    # At 3/8 of the shared pixels a quarter of the ramp is behind: (1 - cos(pi / 4)) / 2.
    assert second[1] == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert first[7] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert (second[0], first[9]) == (0, 0)  # next to its border a tile has no say


def test_the_border_of_the_image_is_its_tiles_own():
    grid = TileGrid((30, 30), Tiling((20, 20), 8))
    corner = grid.weights(0)
    assert corner[0, 0] == corner[9, 9] == 1 and corner[-1, -1] == 0


def test_a_narrow_image_is_filled_up_with_its_border():
    grid = TileGrid((3, 30), Tiling((8, 16), 4))
    image = np.arange(90, dtype=np.float32).reshape(1, 3, 30)
    assert [box.left for box in grid.boxes] == [0, 7, 14]
    tile = grid.cut(image, 2)
    assert tile.shape == (1, 8, 16)
    np.testing.assert_array_equal(tile[0, :3], image[0, :, 14:30])
    np.testing.assert_array_equal(tile[0, 3:], np.repeat(image[0, 2:, 14:30], 5, axis=0))


@pytest.mark.parametrize(
    ("given_size", "overlap", "detector", "size", "shared"),
    [
        (None, None, (256, 256), (256, 256), 64),
        (None, None, (64, 128), (64, 128), 16),
        (512, None, (64, 128), (256, 512), 64),
        (100, 50, (64, 64), (100, 100), 50),
        (None, 0, (64, 64), (64, 64), 0),
    ],
)
def test_tiles_have_the_detectors_proportions(given_size, overlap, detector, size, shared):
    assert Tiling.of(TileParameters(size=given_size, overlap=overlap), detector) == Tiling(size, shared)


def test_more_than_half_is_not_shared():
    with pytest.raises(ValueError, match="overlap 60 is more than half of size 100"):
        TileParameters(size=100, overlap=60)
    with pytest.raises(InputError, match="overlap 40 is more than half of a tile of 64 x 128; give at most 32"):
        Tiling.of(TileParameters(overlap=40), (64, 128))


def test_what_one_tile_holds():
    tiling = Tiling((20, 30), 4)
    assert tiling.hold_whole((20, 30)) and tiling.hold_whole((1, 1))
    assert not tiling.hold_whole((21, 30)) and not tiling.hold_whole((20, 31))
