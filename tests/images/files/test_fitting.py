"""Images of other sizes: what is seen of them, where it is shown, and that masks follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdad.images.files.fitting import Box, Placement, fit_image, fit_mask, frame_of, place

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
