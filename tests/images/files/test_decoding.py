"""Every mode of an image file against values worked out by hand."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdad.errors import InputError
from kdad.images.files.decoding import decode_image, resize_image, resize_mask, silenced_warnings

_PATIENCE = 20.0


def test_filters_are_as_they_were_when_two_threads_overlap():
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with silenced_warnings():
            inside.set()
            leave.wait(_PATIENCE)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        other = threading.Thread(target=stay)
        with silenced_warnings():
            other.start()
            assert inside.wait(_PATIENCE)
        warnings.warn("the other thread is inside still", stacklevel=1)
        leave.set()
        other.join(_PATIENCE)
        assert list(warnings.filters) == before


def test_filters_come_back_after_a_fault():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        try:
            with silenced_warnings():
                warnings.warn("nobody hears this", stacklevel=1)
                raise ValueError
        except ValueError:
            assert list(warnings.filters) == before


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def pixel(path: Path) -> list[float]:
    """The RGB values in 0..255 of the upper left pixel."""
    decoded = decode_image(path)
    assert decoded.dtype == np.float32
    assert decoded.shape[0] == 3
    return (decoded[:, 0, 0] * 255).round(3).tolist()


def test_rgb_keeps_channels_rows_and_columns(tmp_path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
    decoded = decode_image(save(Image.fromarray(pixels), tmp_path / "a.png"))
    np.testing.assert_allclose(decoded, np.moveaxis(pixels, 2, 0) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "colour", "extension", "expected"),
    [
        ("L", 51, "png", [51, 51, 51]),
        ("1", 1, "png", [255, 255, 255]),
        ("RGBA", (200, 100, 0, 255), "png", [200, 100, 0]),
        # over white: 0.4 * 200 + 0.6 * 255 = 233, 0.4 * 100 + 153 = 193, 153 (alpha 102 is 0.4)
        ("RGBA", (200, 100, 0, 102), "png", [233, 193, 153]),
        # no transparency that says anything
        ("RGBA", (200, 100, 0, 0), "png", [200, 100, 0]),
        # 0.4 * 50 + 153 = 173
        ("LA", (50, 102), "png", [173, 173, 173]),
        # 255 - ink, black ink 0
        ("CMYK", (255, 0, 55, 0), "tif", [0, 255, 200]),
    ],
)
def test_modes(tmp_path, mode, colour, extension, expected):
    path = save(Image.new(mode, (3, 2), colour), tmp_path / f"a.{extension}")
    assert pixel(path) == pytest.approx(expected, abs=1.01)
    assert decode_image(path).shape == (3, 2, 3)


def test_palette(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(save(image, tmp_path / "a.png")) == [10, 20, 30]


def test_transparent_palette_colour_is_white(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpixel((1, 1), 0)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(save(image, tmp_path / "a.png", transparency=1)) == [255, 255, 255]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_65535(tmp_path, extension):
    values = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)  # 257 * (0, 1, 128, 255)
    decoded = decode_image(save(Image.fromarray(values), tmp_path / f"a.{extension}"))
    np.testing.assert_allclose(decoded[1] * 255, [[0, 1], [128, 255]], atol=1e-4)
    assert (decoded == decoded[0]).all()


def test_integers_of_32_bits_are_read_as_16(tmp_path):
    path = save(Image.fromarray(np.array([[13107, 65535]], dtype=np.int32)), tmp_path / "a.tif")
    np.testing.assert_allclose(decode_image(path)[0], [[0.2, 1.0]], rtol=1e-6)


def test_floats_in_range(tmp_path):
    path = save(Image.fromarray(np.array([[0.25, 1.0]], dtype=np.float32)), tmp_path / "a.tif")
    assert decode_image(path)[2].tolist() == [[0.25, 1.0]]


@pytest.mark.parametrize("values", [np.int32([[70000]]), np.int32([[-1]]), np.float32([[1.5]])])
def test_values_out_of_range_name_the_file(tmp_path, values):
    path = save(Image.fromarray(values), tmp_path / "wide.tif")
    with pytest.raises(InputError, match=r"wide\.tif: values are outside"):
        decode_image(path)


def test_exif_rotation_turns_the_image_upright(tmp_path):
    stored = np.zeros((2, 3), dtype=np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise: the stored upper left is shown at the upper right
    path = save(Image.fromarray(stored), tmp_path / "a.png", exif=exif)
    assert decode_image(path)[0].tolist() == [[0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_file_names_itself(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"short.{extension}")
    decode_image(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=rf"short\.{extension}: cannot be read"):
        decode_image(path)


@pytest.mark.parametrize("content", [b"", b"plain text"])
def test_file_that_is_no_image(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.png: cannot be read as an image .*replace or remove"):
        decode_image(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png"):
        decode_image(tmp_path / "gone.png")


def test_shrinking_averages_and_does_not_skip_pixels():
    # Every eighth column is 1: sampling between columns 3 and 4 of each eight would give 0, their mean is 1/8.
    stripes = np.zeros((3, 64, 64), dtype=np.float32)
    stripes[:, :, ::8] = 1
    shrunk = resize_image(stripes, (8, 8))
    assert shrunk.shape == (3, 8, 8)
    np.testing.assert_allclose(shrunk[:, :, 1:-1], 1 / 8, atol=0.01)


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 40), st.integers(8, 40), st.floats(0, 1, width=32))
def test_resizing_keeps_a_constant_and_the_range(height, width, value):
    image = np.full((3, 17, 23), value, dtype=np.float32)
    resized = resize_image(image, (height, width))
    assert resized.shape == (3, height, width)
    np.testing.assert_allclose(resized, value, atol=1e-6)
    assert resized.min() >= 0
    assert resized.max() <= 1


def test_masks_are_resized_by_whole_pixels():
    mask = np.array([[True, False], [False, True]])
    enlarged = resize_mask(mask, (4, 6))
    assert enlarged.dtype == bool
    assert enlarged.tolist() == np.kron(mask, np.ones((2, 3), bool)).tolist()
