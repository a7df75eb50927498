"""Patches: where they may lie, and what is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.errors import InputError
from kdad.images.patches import cut_patches, sample_patches


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_patches_lie_inside(height, width, data):
    size = data.draw(st.integers(1, min(height, width)))
    table = sample_patches([3, 5], (height, width), size, 4, np.random.default_rng(0))
    assert table["row"].tolist() == [3] * 4 + [5] * 4
    assert table["top"].between(0, height - size).all()
    assert table["left"].between(0, width - size).all()


def test_every_place_is_as_likely():
    # 3 x 4 places of a 2 x 2 patch in 4 x 5; 12,000 draws give 1000 +- 30 (1 sd) each
    table = sample_patches(range(100), (4, 5), 2, 120, np.random.default_rng(1))
    counts = table.groupby(["top", "left"]).size()
    assert len(counts) == 12
    assert counts.between(850, 1150).all()


def test_same_generator_same_patches():
    first, second = (sample_patches([0, 1], (9, 9), 3, 5, np.random.default_rng(7)) for _ in range(2))
    assert first.equals(second)


def test_patch_larger_than_the_image():
    with pytest.raises(InputError, match=r"patches\.size is 9, but images are 8 x 20"):
        sample_patches([0], (8, 20), 9, 1, np.random.default_rng(0))
    with pytest.raises(InputError, match="the image is 8 x 20"):
        cut_patches(np.zeros((3, 8, 20)), np.array([0]), np.array([0]), 9)


def test_cutting_equals_slicing():
    image = np.arange(3 * 7 * 9, dtype=np.float32).reshape(3, 7, 9)
    tops, lefts = np.array([0, 4, 2]), np.array([6, 0, 3])
    patches = cut_patches(image, tops, lefts, 3)
    assert patches.shape == (3, 3, 3, 3)
    for patch, top, left in zip(patches, tops, lefts, strict=True):
        np.testing.assert_array_equal(patch, image[:, top : top + 3, left : left + 3])
    patches[:] = -1
    assert image.min() == 0
