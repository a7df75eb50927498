import numpy as np
import pytest
from PIL import Image

from kdad.images.files.fitting import place
from kdad.reporting import overlays
from kdad.reporting.overlays import blend_heat, overlay_heat, overlay_placed, thumbnail, thumbnail_size
from kdad.reporting.style import HEAT


def test_overlay_has_the_size_of_the_image():
    image = np.full((3, 30, 50), 0.5, np.float32)
    picture = overlay_heat(image, np.zeros((4, 4), np.float32), (0, 1))
    assert (picture.width, picture.height, picture.mode) == (50, 30, "RGB")


def test_the_hotter_a_pixel_the_less_of_the_image_shows():
    # Four columns from two: heat 0, 1/4, 3/4, 1. The colours of 0 and 1 are (13, 27, 62) and (252, 253, 191), grey is
    # 127.5; opacities 0.15 and 0.9, so 0.85 * 127.5 + 0.15 * 13 = 110.3 and 0.1 * 127.5 + 0.9 * 252 = 239.6.
    image = np.full((3, 1, 4), 0.5, np.float32)
    pixels = np.asarray(overlay_heat(image, np.array([[2.0, 4.0]], np.float32), (2.0, 4.0)))
    np.testing.assert_array_equal(pixels[0, 0], [110, 112, 118])
    np.testing.assert_array_equal(pixels[0, 3], [240, 240, 185])
    # Heat 1/4: the colour is (97, 37, 116), opacity 0.3375, so 0.6625 * 127.5 + 0.3375 * 97 = 117.2.
    np.testing.assert_array_equal(pixels[0, 1], [117, 97, 124])


def test_colours_of_the_image_become_their_mean_under_the_map():
    image = np.zeros((3, 2, 2), np.float32)
    image[0] = 0.9  # grey 0.3: 0.85 * 76.5 + 0.15 * (13, 27, 62)
    pixels = np.asarray(overlay_heat(image, np.zeros((2, 2), np.float32), (0.0, 1.0)))
    np.testing.assert_array_equal(pixels[1, 1], [67, 69, 74])


def test_values_beyond_the_limits_have_the_last_colours():
    image = np.zeros((3, 1, 2), np.float32)
    inside, beyond = (
        np.asarray(overlay_heat(image, np.array([values], np.float32), (0.0, 1.0))) for values in ([0, 1], [-7, 9])
    )
    np.testing.assert_array_equal(inside[0, 1], beyond[0, 1])
    np.testing.assert_array_equal(inside[0, 0], beyond[0, 0])


def test_a_map_of_one_value_and_equal_limits_can_be_drawn():
    picture = overlay_heat(np.zeros((3, 2, 2), np.float32), np.ones((2, 2), np.float32), (1.0, 1.0))
    assert picture.getpixel((0, 0)) == (2, 4, 9)  # 0.15 * (13, 27, 62)


def test_without_a_map_the_image_is_shown_in_its_colours():
    image = np.zeros((3, 2, 5), np.float32)
    image[:, 1, 4] = 1.0, 0.5, 0.2
    picture = overlay_heat(image, None, (0.0, 1.0))
    assert picture.size == (5, 2)
    assert picture.getpixel((4, 1)) == (255, 128, 51)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((800, 400), (160, 80)), ((300, 640), (75, 160)), ((28, 20), (28, 20)), ((5000, 2), (160, 1))],
)
def test_a_thumbnail_keeps_the_shape_and_is_never_larger_than_the_picture(size, expected):
    assert thumbnail(Image.new("RGB", size)).size == expected
    assert thumbnail_size(*size) == expected


def test_a_thumbnail_averages_fine_stripes():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(thumbnail(Image.fromarray(stripes), 80))
    assert small.shape == (80, 80, 3)
    assert abs(small[10:-10, 10:-10].astype(int) - 127).max() <= 2


def test_of_a_letterbox_the_part_of_the_map_that_shows_the_image_is_laid_over_it():
    image = np.full((3, 8, 4), 0.5, np.float32)
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[:, 2:6] = np.linspace(0, 1, 8)[:, None]
    anomaly_map[:, [0, 7]] = 9  # of the border, which is not the image's
    drawn = overlay_placed(image, anomaly_map, (0.0, 1.0), place((8, 4), (8, 8), "letterbox"))
    expected = overlay_heat(image, anomaly_map[:, 2:6], (0.0, 1.0))
    assert drawn.size == (4, 8)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))


def test_what_was_cut_off_is_dark_and_grey():
    image = np.zeros((3, 8, 4), np.float32)
    image[0] = 1  # red
    placement = place((8, 4), (4, 4), "centre_crop")
    drawn = np.asarray(overlay_placed(image, np.ones((4, 4), np.float32), (0.0, 1.0), placement))
    assert drawn.shape == (8, 4, 3)
    # half as bright a red is 128, whose luminance is 0.299 of it
    assert (drawn[[0, 1, 6, 7]] == 38).all()
    np.testing.assert_array_equal(
        drawn[2:6], np.asarray(overlay_heat(image[:, 2:6], np.ones((4, 4), np.float32), (0.0, 1.0)))
    )


def test_without_a_placement_or_a_map_the_whole_is_drawn():
    image = np.full((3, 4, 4), 0.5, np.float32)
    placement = place((4, 4), (2, 2), "centre_crop")
    for drawn in (overlay_placed(image, None, (0.0, 1.0), placement), overlay_placed(image, None, (0.0, 1.0), None)):
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(overlay_heat(image, None, (0.0, 1.0))))


def test_an_overlay_in_bands_is_that_of_the_whole(monkeypatch):
    generator = np.random.default_rng(0)
    image, values = generator.random((3, 97, 50), dtype=np.float32), generator.random((7, 9), dtype=np.float32)
    enlarged = np.asarray(Image.fromarray(values).resize((50, 97), Image.Resampling.BILINEAR))
    whole = np.round(blend_heat(image, enlarged, (0.2, 0.9)) * 255)
    monkeypatch.setattr("kdad.reporting.overlays._PIXELS_AT_ONCE", 50 * 8)  # the last band has one row
    banded = np.asarray(overlay_heat(image, values, (0.2, 0.9))).astype(float)
    # A pixel on the border between two of the 256 colours may fall to either.
    assert np.abs(banded - whole).max() <= 4
    assert (banded == whole).mean() > 0.99


def test_an_image_wider_than_a_band_can_be_drawn(monkeypatch):
    monkeypatch.setattr("kdad.reporting.overlays._PIXELS_AT_ONCE", 4)
    assert overlay_heat(np.zeros((3, 5, 9), np.float32), np.zeros((2, 2), np.float32), (0, 1)).size == (9, 5)


def test_colours_are_those_of_figures():
    expected = HEAT(np.arange(256), bytes=True)[:, :3] / np.float32(255)
    np.testing.assert_allclose(overlays._heat_colours(), expected.T, atol=1.01 / 255)  # Matplotlib rounds otherwise
