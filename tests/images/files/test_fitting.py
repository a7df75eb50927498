"""Images of other sizes: what is seen of them, where it is shown, and that masks follow."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kdad.images.checks import check_images
from kdad.images.files.fitting import Box, Placement, Preparation, fit_image, fit_mask, frame_of, place
from kdad.images.files.value_range import EIGHT_BITS, ValueRange
from kdad.images.folder import FolderSet
from kdad.parameters.dataset import DatasetParameters

FITS = ("resize", "letterbox", "centre_crop")


def test_stretched_the_whole_is_seen_everywhere():
    assert place((100, 50), (32, 32), "resize") == Placement((100, 50), Box(0, 0, 100, 50), Box(0, 0, 32, 32))


def test_in_a_letterbox_the_whole_is_seen_in_the_middle():
    # 100 x 50 by 0.32 is 32 x 16, with 8 columns at either side
    assert place((100, 50), (32, 32), "letterbox") == Placement((100, 50), Box(0, 0, 100, 50), Box(0, 8, 32, 16))
    # 50 x 200 by 0.16 is 8 x 32, with 12 rows above and below
    assert place((50, 200), (32, 32), "letterbox").shown == Box(12, 0, 8, 32)


def test_cut_the_middle_is_seen_everywhere():
    # the shorter side fits: 50 columns are 32, and so are 50 of the 100 rows
    assert place((100, 50), (32, 32), "centre_crop") == Placement((100, 50), Box(25, 0, 50, 50), Box(0, 0, 32, 32))
    # 40 x 30 to 10 x 20: 30 columns are 20, and 15 of the 40 rows are 10
    assert place((40, 30), (10, 20), "centre_crop").seen == Box(12, 0, 15, 30)


def test_the_frame_that_an_image_fits_unscaled():
    assert frame_of((100, 50), (32, 32), "resize") == (100, 50)
    assert frame_of((100, 50), (32, 32), "letterbox") == (100, 100)  # 25 columns more at either side
    assert frame_of((100, 50), (32, 32), "centre_crop") == (50, 50)
    assert frame_of((40, 30), (10, 20), "letterbox") == (40, 80)
    assert frame_of((40, 30), (10, 20), "centre_crop") == (15, 30)


def test_a_letterbox_is_filled_with_the_border_and_its_mask_with_nothing():
    image = np.array([[[0.1, 0.4]] * 4], dtype=np.float32)  # (1, 4, 2)
    np.testing.assert_allclose(fit_image(image, (4, 5), "letterbox"), [[[0.1, 0.1, 0.4, 0.4, 0.4]] * 4])
    mask = np.array([[True, True]] * 4)
    assert fit_mask(mask, (4, 5), "letterbox").tolist() == [[False, True, True, False, False]] * 4


def test_a_crop_is_the_middle_at_its_own_values():
    image = np.arange(8, dtype=np.float32).reshape(1, 4, 2) / 8
    assert fit_image(image, (2, 2), "centre_crop").tolist() == image[:, 1:3].tolist()
    mask = np.array([[True, True], [False, True], [True, False], [True, True]])
    assert fit_mask(mask, (2, 2), "centre_crop").tolist() == [[False, True], [True, False]]


def test_a_placement_follows_its_image_to_another_size():
    cut = place((100, 50), (32, 32), "centre_crop")
    assert cut.of_size(20, 10) == Placement((20, 10), Box(5, 0, 10, 10), Box(0, 0, 32, 32))


sides = st.integers(1, 60)


@pytest.mark.parametrize("fit", FITS)
@given(height=sides, width=sides, size=st.tuples(st.integers(8, 40), st.integers(8, 40)))
def test_mask_and_image_come_to_one_size_whatever_they_were(fit, height, width, size):
    image = fit_image(np.full((3, height, width), 0.5, np.float32), size, fit)
    assert image.shape == (3, *size)
    np.testing.assert_allclose(image, 0.5, atol=1e-6)
    mask = fit_mask(np.ones((height, width), bool), size, fit)
    assert mask.shape == size
    shown = place((height, width), size, fit).shown
    assert mask.sum() == shown.height * shown.width
    assert shown.cut(mask).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_mask_covers_what_is_bright_in_its_image(fit):
    mask = np.zeros((60, 90), bool)
    mask[18:30, 36:54] = True
    image = np.repeat(mask[None].astype(np.float32), 3, axis=0)
    bright = fit_image(image, (30, 30), fit)[0] > 0.5
    assert (bright != fit_mask(mask, (30, 30), fit)).sum() <= 2 * (12 + 18)  # the edge's pixels at most
    assert bright.any()


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def thermal(tmp_path) -> Path:
    """Six images of 16 bits, 24 x 48 pixels of 51,000 and 52,000, and a hot one with a mask."""
    cold = np.repeat(np.uint16([51000, 52000]), 24)[None].repeat(24, axis=0)
    for number in range(6):
        write(tmp_path / f"good/{number}.png", cold)
    hot = cold.copy()
    hot[:, 20:28] = 60000
    write(tmp_path / "hot/0.png", hot)
    write(tmp_path / "ground_truth/hot/0_mask.png", (hot == 60000).astype(np.uint8))
    return tmp_path


def open_set(root: Path, **given) -> FolderSet:
    return FolderSet(DatasetParameters(name="folder", root=str(root), image_size=[24, 24], **given))


def row_of(images: FolderSet, name: str) -> int:
    return [sample.id for sample in images.samples].index(name)


def test_sixteen_bits_are_scaled_by_what_training_images_use(thermal):
    images = open_set(thermal)
    assert images.preparation == Preparation("resize", ValueRange(kind="integer", low=50750, high=52250))
    found = images.image(row_of(images, "good/0.png"))
    np.testing.assert_allclose(found[:, :, [0, -1]], np.float32([1 / 6, 5 / 6]) + np.zeros((3, 24, 1)), atol=1e-6)
    assert images.image(row_of(images, "hot/0.png")).max() == 1  # hotter than all that was seen
    check_images(images)


def test_by_the_types_limits_as_it_was_asked_for(thermal):
    images = open_set(thermal, value_range="type")
    assert images.preparation.values is None
    np.testing.assert_allclose(images.image(row_of(images, "good/0.png"))[0, 0, 0], 51000 / 65535, rtol=1e-6)


def test_eight_bits_and_files_of_another_kind_among_sixteen_are_problems(thermal):
    write(thermal / "hot/1.png", np.zeros((24, 48), np.uint8))
    (problem,) = open_set(thermal).problems()
    assert "1.png: holds 8-bit values (mode L) where training images hold integer ones" in problem
    write(thermal / "good/9.png", np.zeros((24, 48), np.uint8))
    (problem,) = open_set(thermal).problems()
    assert "several kinds" in problem
    assert open_set(thermal, value_range="type").problems() == []


def test_a_masks_own_resolution_is_that_of_the_fit(thermal):
    """Of 24 x 48 pixels eight columns from 20 are hot: filled up by 12 rows above and below, or cut by 12 columns."""
    for fit, (rows, columns) in {"resize": (24, 48), "letterbox": (48, 48), "centre_crop": (24, 24)}.items():
        images = open_set(thermal, fit=fit)
        hot = row_of(images, "hot/0.png")
        expected = np.zeros((rows, columns), bool)
        top, left = (rows - 24) // 2, 20 - (48 - columns) // 2
        expected[top : top + 24, left : left + 8] = True
        np.testing.assert_array_equal(images.own_mask(hot), expected)
        assert images.own_size(hot) == (rows, columns)


@pytest.mark.parametrize("fit", ["letterbox", "centre_crop"])
def test_images_and_masks_are_fitted_alike(thermal, fit):
    images = open_set(thermal, fit=fit)
    row = row_of(images, "hot/0.png")
    hot = np.zeros((24, 48), bool)
    hot[:, 20:28] = True
    np.testing.assert_array_equal(images.mask(row), fit_mask(hot, (24, 24), fit))
    expected = {"letterbox": 12 * 4, "centre_crop": 24 * 8}[fit]  # half as large, or the middle as it is
    assert images.mask(row).sum() == expected
    assert images.image(row).shape == (3, 24, 24)
    # colder columns beside it have a share in its edge where it is made smaller
    assert images.image(row)[0][images.mask(row)].min() > 0.85


def test_eight_bits_are_the_same_numbers_as_ever(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    for number in range(4):
        write(tmp_path / f"good/{number}.png", pixels)
    images = open_set(tmp_path)
    assert images.preparation == Preparation()
    assert images.preparation.values == EIGHT_BITS
    by_hand = np.repeat((pixels.astype(np.float32) / np.float32(255))[None], 3, axis=0)
    np.testing.assert_array_equal(images.image(0), fit_image(by_hand, (24, 24), "resize"))


def test_the_fingerprint_of_usual_files_is_of_their_bytes_and_others_tell_how_they_are_made(tmp_path):
    for number in range(4):
        write(tmp_path / f"good/{number}.png", np.full((8, 8), 10 * number, np.uint8) + np.eye(8, dtype=np.uint8) * 90)
    usual = open_set(tmp_path)
    prints = {
        usual.fingerprint(0),
        *(open_set(tmp_path, fit=fit).fingerprint(0) for fit in ("letterbox", "centre_crop")),
        *(open_set(tmp_path, value_range=given).fingerprint(0) for given in ("data", [0, 100])),
    }
    assert len(prints) == 5
    assert open_set(tmp_path, value_range=[0, 100]).fingerprint(0) in prints


def test_a_box_of_the_map_in_the_images_own_pixels():
    # 40 x 80 becomes 16 x 32 in the middle of 32 x 32; a pixel of the map is 2.5 of the image's.
    assert place((40, 80), (32, 32), "letterbox").own_box(slice(0, 16), slice(4, 8)) == (10, 0, 20, 40)
    # Of 40 x 80 the middle 40 x 40 is seen.
    assert place((40, 80), (20, 20), "centre_crop").own_box(slice(0, 1), slice(0, 20)) == (20, 0, 60, 2)
    assert place((4, 4), (16, 16), "resize").own_box(slice(3, 4), slice(15, 16)) == (4, 1, 5, 2)
