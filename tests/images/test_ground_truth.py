"""Masks of the test images, and why there are none."""

import numpy as np
import pytest

from kdad.images.ground_truth import read_ground_truth
from memory_images import MemoryImages, split_of


class _Unmasked(MemoryImages):
    """As its parent, with masks of some images only."""

    masked: tuple[int, ...] = ()

    def __init__(self, masked=()) -> None:
        super().__init__()
        self.masked = tuple(masked)
        samples = enumerate(self.samples)
        self.samples = [type(s)(s.id, s.label, s.kind, s.subset, row in self.masked) for row, s in samples]

    def mask(self, index):
        return super().mask(index) if index in self.masked else None


def test_masks_are_those_of_the_test_images_in_order():
    images = MemoryImages()
    truth = read_ground_truth(split_of(images), images)
    assert truth.reason is None
    assert truth.positions.tolist() == list(range(6))
    assert truth.unmasked == 0
    for mask, row in zip(truth.masks, (0, 5, 6, 9, 14, 15), strict=True):
        np.testing.assert_array_equal(mask, images.mask(row))
    assert truth.masks.any(axis=(1, 2)).tolist() == [False, True, False, True, False, True]


def test_an_anomalous_image_without_a_mask_is_left_out_and_counted():
    images = _Unmasked(masked=(5, 15))
    truth = read_ground_truth(split_of(images), images)
    assert truth.positions.tolist() == [0, 1, 2, 4, 5]  # row 9 is the fourth of the test images
    assert truth.unmasked == 1
    np.testing.assert_array_equal(truth.shown(5), images._defect(15))
    assert not truth.shown(4).any()
    assert truth.shown(3) is None


def _all_normal():
    images = MemoryImages(parts=["train", "validation", "test", "test"])
    return images, "the test images are all normal"


def _no_masks():
    return _Unmasked(), "this image set has no masks"


def _all_anomalous():
    images = MemoryImages(parts=["train"] * 4 + ["validation", "test"])
    images._defect = lambda _: np.ones(images.size, dtype=bool)
    return images, "the masks leave no normal pixel"


@pytest.mark.parametrize("case", [_all_normal, _no_masks, _all_anomalous])
def test_without_usable_masks_there_is_a_reason(case):
    images, reason = case()
    truth = read_ground_truth(split_of(images), images)
    assert (truth.reason, truth.unmasked) == (reason, 0)
    assert truth.shown(0) is None
