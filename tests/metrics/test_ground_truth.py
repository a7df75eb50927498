"""Masks of the test images, and why there are none."""

import dataclasses

import numpy as np
import pytest

from kdad.images.files.fitting import Preparation, Region
from kdad.metrics import ground_truth
from kdad.metrics.ground_truth import measured_pair, read_ground_truth
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


class _Detailed(MemoryImages):
    """As its parent, seen at 8 x 8 pixels; files are 32 x 40, and a defect is one or more pixels of them."""

    def __init__(self, defects) -> None:
        super().__init__(size=(8, 8), parts=["train"] * 4 + ["validation", "test"] + ["test"] * 4)
        self.defects = defects  # pixels marked in rows 5 and 9, the anomalous ones

    def own_size(self, index):
        return (32, 40)

    def own_mask(self, index):
        found = np.zeros((32, 40), dtype=bool)
        found[:1, : self.defects.get(index, 0)] = True
        return found

    def mask(self, index):
        return self.own_mask(index)[2::4, 2::5]


def test_masks_are_kept_at_their_own_resolution_where_that_is_asked_for():
    images = _Detailed({5: 3, 9: 2})
    truth = read_ground_truth(split_of(images), images, "masks")
    assert truth.reason is None
    assert [mask.shape for mask in truth.own_masks] == [(32, 40)] * 5
    assert [int(mask.sum()) for mask in truth.own_masks] == [3, 0, 0, 0, 2]
    assert not truth.masks.any()  # at 8 x 8 they vanish
    assert truth.resolution == "the masks' own resolution"


def test_masks_that_vanish_at_the_models_size_are_a_reason_of_their_own():
    images = _Detailed({5: 3, 9: 2})
    truth = read_ground_truth(split_of(images), images, "model")
    assert truth.reason.startswith("the masks vanish at 8 x 8 pixels, as what they mark is smaller than a pixel there")
    assert truth.own_masks is None


def test_a_mask_that_is_empty_in_its_file_leaves_its_image_out():
    images = _Detailed({9: 2})
    truth = read_ground_truth(split_of(images), images, "masks")
    assert truth.positions.tolist() == [1, 2, 3, 4]
    assert (truth.reason, truth.unmasked, truth.empty) == (None, 0, 1)
    images = _Detailed({})
    assert read_ground_truth(split_of(images), images).reason == "all 2 masks are empty in their files"


def test_more_pixels_than_are_cheap_are_measured_at_the_models_size(monkeypatch):
    images = _Detailed({5: 40, 9: 2})
    images.mask = lambda index: np.eye(8, dtype=bool)
    monkeypatch.setattr(ground_truth, "MOST_PIXELS", 5 * 32 * 40 - 1)
    assert read_ground_truth(split_of(images), images, "masks").own_masks is None
    monkeypatch.setattr(ground_truth, "MOST_PIXELS", 5 * 32 * 40)
    assert read_ground_truth(split_of(images), images, "masks").own_masks is not None


def test_images_smaller_than_the_models_size_are_measured_at_that():
    images = MemoryImages()
    images.own_size = lambda index: (16, 24)
    images.own_mask = lambda index: MemoryImages.mask(images, index)[::2, ::2]
    assert read_ground_truth(split_of(images), images, "masks").own_masks is None


def test_a_region_is_at_the_masks_size_and_at_the_models(monkeypatch):
    images = _Detailed({5: 4, 9: 4})
    region = np.indices((32, 40))[0] < 16
    monkeypatch.setattr(_Detailed, "preparation", Preparation(region=Region.of(region)))
    truth = read_ground_truth(split_of(images), images, "masks")
    np.testing.assert_array_equal(truth.own_regions[0], region)
    np.testing.assert_array_equal(truth.regions[0], np.indices((8, 8))[0] < 4)
    maps = np.zeros((len(truth.positions), 8, 8), np.float32)
    assert measured_pair(truth, maps)[2] is truth.own_regions
    assert measured_pair(dataclasses.replace(truth, own_masks=None), maps)[2] is truth.regions
    # Masks that fill the region leave no normal pixel.
    images = MemoryImages(parts=["train"] * 4 + ["validation", "test"])
    upper = np.indices(images.size)[0] < 5
    images._defect = lambda _: upper
    monkeypatch.setattr(MemoryImages, "preparation", Preparation(region=Region.of(upper)))
    assert read_ground_truth(split_of(images), images).reason == "the masks leave no normal pixel"


def test_ignored_pixels_of_each_image_are_not_measured():
    images = MemoryImages()
    split = split_of(images)
    row = int(split.rows("test")[1])
    left = np.indices(images.size)[1] < 6
    images.ignored = lambda index: left if index == row else None
    truth = read_ground_truth(split, images)
    assert [int(region.sum()) for region in truth.regions] == [
        left.size - (int(left.sum()) if position == 1 else 0) for position in truth.positions
    ]
    assert truth.of(np.array([1, 2])).regions == [truth.regions[1], truth.regions[2]]
