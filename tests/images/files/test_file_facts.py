"""What files are like, in every format that is read."""

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from kdad.errors import InputError
from kdad.images.files.decoding import EXTENSIONS, decode_image, decode_raw, is_image
from kdad.images.files.file_facts import FileFacts, find_range, kind_by_header, measure_file, say_range, unusual_files
from kdad.images.files.value_range import EIGHT_BITS, ValueRange

#: By extension, whether the format keeps every value.
FORMATS = dict.fromkeys(["png", "bmp", "tif", "tiff", "gif", "jp2", "j2k", "jpx", "pgm", "ppm", "npy"], True)
FORMATS |= dict.fromkeys(("jpg", "jpeg", "jfif", "jpe", "webp", "avif"), False)


def facts_of(path: Path) -> FileFacts:
    return measure_file(path, decode_raw(path))


def write(path: Path, image: Image.Image | np.ndarray, **options) -> Path:
    if path.suffix.lower() == ".npy":
        with path.open("wb") as file:
            np.save(file, image)
    else:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def test_every_extension_is_one_of_these_formats():
    assert {f".{extension}" for extension in FORMATS} == EXTENSIONS


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_found_and_decoded(tmp_path, extension):
    if extension == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    halves = np.repeat(np.uint8([40, 200]), 16).reshape(2, 16).repeat(16, axis=0)  # rows of 40 above rows of 200
    path = write(tmp_path / f"a.{extension.upper()}", halves)
    assert is_image(path)
    decoded = decode_image(path)
    assert decoded.shape == (3, 32, 16)
    tolerance = 0.02 if FORMATS[extension] else 4
    np.testing.assert_allclose(decoded[0, 4, 4] * 255, 40, atol=tolerance)
    np.testing.assert_allclose(decoded[2, 28, 12] * 255, 200, atol=tolerance)


def test_facts_of_a_plain_file(tmp_path):
    pixels = np.repeat(np.uint8([10, 250]), 100).reshape(8, 25)
    assert facts_of(write(tmp_path / "a.png", pixels)) == FileFacts(8, 25, "L", "8-bit", 1, False, 10, 250, True)


@pytest.mark.parametrize(
    ("values", "mode", "kind"),
    [
        (np.uint16([[3, 900]]), "I;16", "integer"),
        (np.int32([[3, 70000]]), "I", "integer"),
        (np.float32([[3, 9]]), "F", "float"),
    ],
)
def test_facts_of_wide_files_are_in_their_own_values(tmp_path, values, mode, kind):
    path = write(tmp_path / "a.tif", values.repeat(2000, axis=0))
    found = facts_of(path)
    assert (found.mode, found.values, found.limits) == (mode, kind, (values[0, 0], values[0, 1]))
    assert kind_by_header(path) == kind


def test_size_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = facts_of(write(tmp_path / "a.jpg", np.zeros((20, 30), np.uint8), exif=exif))
    assert (found.height, found.width) == (30, 20)


@pytest.mark.parametrize("extension", ["tif", "gif"])
def test_of_several_pages_or_frames_the_first_is_taken_and_they_are_named(tmp_path, extension):
    pages = [Image.fromarray(np.full((9, 9), value, np.uint8)) for value in (50, 100, 200)]
    path = write(tmp_path / f"a.{extension}", pages[0], save_all=True, append_images=pages[1:])
    assert (decode_image(path) * 255).round().max() == 50
    assert facts_of(path).frames == 3
    assert unusual_files({"a": facts_of(path)}) == [
        "1 files have several pages or frames, of which the first is taken: a (3)"
    ]


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Return a PNG of colours `(H, W, 3)` of 16 bits, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_16_bits_are_named(tmp_path):
    path = tmp_path / "deep.png"
    path.write_bytes(png_of_16_bits(np.full((4, 4, 3), 0x40FF)))
    assert (decode_image(path) * 255).round().max() == 0x40
    found = facts_of(path)
    assert (found.values, found.deep) == ("8-bit", True)
    assert unusual_files({"deep": found}) == ["1 files have colours of 16 bits, of which the upper 8 are taken: deep"]
    shallow = write(tmp_path / "shallow.png", np.zeros((4, 4, 3), np.uint8))
    assert not facts_of(shallow).deep


def test_of_many_unusual_files_the_first_are_named():
    facts = {f"{number}.tif": FileFacts(1, 1, "L", "8-bit", 2, False, 0, 1, False) for number in range(5)}
    assert unusual_files(facts)[0].endswith("0.tif (2), 1.tif (2), 2.tif (2) and 2 more")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_number_are_named_with_their_place(tmp_path, value):
    pixels = np.full((6, 7), 0.5, np.float32)
    pixels[2, 3] = pixels[5, 0] = value
    path = write(tmp_path / "a.tif", pixels)
    with pytest.raises(
        InputError, match=r"a\.tif: 2 of its 42 pixels are NaN or infinite, the first at row 2, column 3"
    ):
        decode_image(path)


def test_a_sound_but_huge_file_is_not_called_damaged(tmp_path, monkeypatch):
    path = write(tmp_path / "huge.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(InputError, match=r"huge\.png: has more than the 0 million pixels .*make it smaller") as caught:
        decode_image(path)
    assert "bomb" not in str(caught.value)
    assert "remove" not in str(caught.value)


def test_a_header_that_cannot_be_read_names_its_file(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        kind_by_header(tmp_path / "a.png")


def write_pixels(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def ramp(dtype, low, high) -> np.ndarray:
    return np.linspace(low, high, 400).reshape(20, 20).astype(dtype)


@pytest.fixture
def thermal(tmp_path) -> list[Path]:
    """Four images of 16 bits whose values lie in 51,000..52,000, one with a dead pixel."""
    pixels = [np.repeat(np.uint16([51000, 52000]), 1000).reshape(40, 50) for _ in range(4)]
    pixels[2][0, 0] = 0
    return [write_pixels(tmp_path / f"{number}.png", values) for number, values in enumerate(pixels)]


def test_eight_bits_stay_as_they_are_without_being_decoded(tmp_path, monkeypatch):
    path = write_pixels(tmp_path / "a.png", ramp("uint8", 100, 110))
    monkeypatch.setattr("kdad.images.files.file_facts.decode_raw", None)
    assert find_range([path], "auto") == EIGHT_BITS


def test_eight_bits_are_looked_at_when_that_is_asked_for(tmp_path):
    path = write_pixels(tmp_path / "a.png", np.repeat(np.uint8([100, 140]), 200).reshape(20, 20))
    assert find_range([path], "data") == ValueRange(kind="8-bit", low=90, high=150)


def test_wide_values_are_scaled_by_what_all_images_use(thermal):
    # 1,000 are used, a quarter more at either side; the dead pixel is one of 2,000
    assert find_range(thermal, "auto") == ValueRange(kind="integer", low=50750, high=52250)


def test_the_types_limits_and_given_ones(thermal):
    assert find_range(thermal, "type") is None
    assert find_range(thermal, [0, 4095]) == ValueRange(kind="integer", low=0, high=4095)


def test_floats_of_any_range(tmp_path):
    path = write_pixels(tmp_path / "a.tif", np.repeat(np.float32([20, 36]), 200).reshape(20, 20))
    assert find_range([path], "auto") == ValueRange(kind="float", low=16, high=40)


def test_several_kinds_are_named(thermal, tmp_path):
    other = write_pixels(tmp_path / "other.png", ramp("uint8", 0, 255))
    with pytest.raises(InputError, match=r"several kinds.*integer \(.*0\.png\), 8-bit \(.*other\.png\).*=type"):
        find_range([*thermal, other], "auto")
    assert find_range([*thermal, other], "type") is None


def test_files_that_cannot_be_read_are_left_to_those_that_name_them(thermal, tmp_path):
    torn, cut = tmp_path / "torn.png", tmp_path / "cut.png"
    torn.write_text("no image")
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    cut.write_bytes(write_pixels(cut, noise).read_bytes()[:2000])
    assert find_range([torn, *thermal, cut], "auto") == find_range(thermal, "auto")
    assert find_range([torn], "auto") == EIGHT_BITS


def test_what_is_scaled_is_logged_and_bad_use_is_a_warning(caplog):
    with caplog.at_level(logging.INFO, logger="kdad"):
        for values, limits in ((EIGHT_BITS, [(0, 250)]), (EIGHT_BITS, [(100, 130)]), (None, [])):
            say_range(values, limits)
    first, _, warned, by_type = caplog.messages
    assert first.startswith("Pixel values: 8-bit values, of which training images use 0 to 250 ")
    assert "use 11.8% of the range" in warned
    assert by_type == "Pixel values: each file by its type's limits (dataset.value_range)"
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING", "INFO"]
