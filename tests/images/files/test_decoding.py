"""Every mode of an image file against values worked out by hand."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.files.decoding import decode_image, decode_raw, read_size, resize_image, resize_mask, silenced_warnings
from kdad.images.files.file_facts import kind_by_header
from kdad.images.files.mask_files import read_mask
from kdad.images.files.value_range import kind_of
from kdad.parameters.dataset import DatasetParameters
from layout_trees import open_set

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


def test_the_size_of_a_png_takes_no_decoding_and_is_upright_wherever_it_says_so(tmp_path, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter
    picture = Image.new("L", (8, 5))
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "before.png", exif=turned)
    plain, before = ((tmp_path / f"{name}.png").read_bytes() for name in ("plain", "before"))
    start = before.index(b"eXIf") - 4
    said = before[start : start + 12 + int.from_bytes(before[start : start + 4])]
    end = plain.index(b"IEND") - 4
    (tmp_path / "after.png").write_bytes(plain[:end] + said + plain[end:])  # as exiftool may write it
    assert read_size(tmp_path / "after.png") == (8, 5) == decode_image(tmp_path / "after.png").shape[1:]
    monkeypatch.setattr(PngImageFile, "load", None)
    assert [read_size(tmp_path / f"{name}.png") for name in ("plain", "before")] == [(5, 8), (8, 5)]


CUBE = np.random.default_rng(0).integers(0, 256, (8, 9, 6), dtype=np.uint8)


def as_tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)
    return path


def test_bands_are_taken_in_their_order_from_tiff_and_npy(tmp_path):
    np.save(tmp_path / "a.npy", CUBE)
    as_tiff(tmp_path / "b.tif", CUBE, photometric="minisblack", planarconfig="contig")
    as_tiff(tmp_path / "c.tif", np.moveaxis(CUBE, -1, 0), photometric="minisblack", planarconfig="separate")
    as_tiff(tmp_path / "d.tif", CUBE.astype(np.uint16) * 257, photometric="minisblack", planarconfig="contig")
    for name in ("a.npy", "b.tif", "c.tif", "d.tif"):
        path = tmp_path / name
        assert read_size(path) == (8, 9)
        assert kind_by_header(path) == ("integer" if name == "d.tif" else "8-bit")
        for bands in ((0, 1, 3), (5, 2, 2), (4, 4, 4)):
            expected = CUBE[..., list(bands)].transpose(2, 0, 1) / 255
            np.testing.assert_allclose(decode_image(path, bands=bands), expected, atol=1e-6)
        np.testing.assert_allclose(decode_image(path, bands=(4,)), np.stack(3 * [CUBE[..., 4] / 255]), atol=1e-6)
        with pytest.raises(
            InputError, match=r"has 6 bands; say which one or three are taken.*dataset\.bands=\[0, 1, 2\]"
        ):
            decode_image(path)
        with pytest.raises(InputError, match=r"has 6 bands, and dataset\.bands asks for number 6, counted from 0"):
            decode_image(path, bands=(6,))


def test_two_bands_and_a_fourth_that_is_no_alpha_are_not_dropped(tmp_path):
    two = as_tiff(tmp_path / "two.tif", CUBE[..., :2], photometric="minisblack", planarconfig="contig")
    four = as_tiff(tmp_path / "four.tif", CUBE[..., :4], photometric="rgb", extrasamples=["unspecified"])
    alpha = CUBE[..., :4].copy()
    alpha[..., 3] = 255
    rgba = as_tiff(tmp_path / "rgba.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    for path, count in ((two, 2), (four, 4)):
        with pytest.raises(InputError, match=rf"has {count} bands; say which"):
            decode_image(path)
    np.testing.assert_array_equal(decode_raw(rgba).pixels, CUBE[..., :3])


def test_bands_of_pictures_are_chosen_too(tmp_path):
    Image.fromarray(CUBE[..., :3]).save(tmp_path / "a.png")
    expected = CUBE[..., [2, 1, 0]].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(decode_image(tmp_path / "a.png", bands=(2, 1, 0)), expected, atol=1e-6)


def test_arrays_of_every_type_that_is_an_image(tmp_path):
    ramp = np.arange(20).reshape(4, 5)
    for dtype, kind in ((bool, "8-bit"), (np.int8, "integer"), (np.uint16, "integer"), (np.float64, "float")):
        np.save(tmp_path / "a.npy", ramp.astype(dtype))
        raw = decode_raw(tmp_path / "a.npy")
        assert raw.pixels.shape[:2] == (4, 5)
        assert kind_of(raw.pixels) == kind
    np.save(tmp_path / "a.npy", ramp[..., None])
    assert decode_raw(tmp_path / "a.npy").pixels.shape == (4, 5)
    mask = ramp > 7
    np.save(tmp_path / "a.npy", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy", "dark"), ~mask)


def test_arrays_that_are_no_images_are_named(tmp_path):
    path = tmp_path / "a.npy"
    for values in (np.zeros(4), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((3, 3), complex), np.array([["a"]])):
        np.save(path, values)
        with pytest.raises(InputError, match=r"a\.npy: holds an array of shape .* which is no image"):
            decode_image(path)
    np.save(path, np.array([[None]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: (cannot be read|holds an array)"):
        decode_image(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an image"):
        decode_image(path)
    values = np.zeros((2, 2, 3), np.float32)
    values[1, 0, 2] = np.nan
    np.save(path, values)
    with pytest.raises(InputError, match=r"1 of its 12 pixels are NaN or infinite, the first at row 1, column 0"):
        decode_image(path)


def test_a_set_of_many_bands(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(4):
        np.save(tmp_path / f"good/{number}.npy", np.roll(CUBE, number))
    with pytest.raises(InputError, match=r"dataset\.bands"):
        check_images(open_set(tmp_path))
    images = open_set(tmp_path, bands=[0, 1, 3], image_size=[8, 9])
    check_images(images)
    rolled = np.roll(CUBE, int(images.samples[0].id[5]))
    np.testing.assert_allclose(images.image(0), rolled[..., [0, 1, 3]].transpose(2, 0, 1) / 255, atol=1e-6)
    assert images.preparation.bands == (0, 1, 3)
    for wrong in ([0, 1], [-1], []):
        with pytest.raises(ValueError, match=r"bands are one number or three"):
            DatasetParameters(name="folder", root="x", image_size=16, bands=wrong)
    with pytest.raises(ValueError, match="bands does not go with textures"):
        DatasetParameters(name="textures", category="brick", image_size=16, bands=[0])
