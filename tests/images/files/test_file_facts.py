"""What files are like, in every format that is read."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from kdad.errors import InputError
from kdad.images.files.decoding import decode_image, decode_raw
from kdad.images.files.extensions import EXTENSIONS
from kdad.images.files.file_facts import FileFacts, kind_by_header, measure_file, unusual_files
from kdad.images.files.reading import find_images

#: By extension, whether the format keeps every value.
FORMATS = dict.fromkeys(("png", "bmp", "tif", "tiff", "gif", "jp2", "j2k", "jpx"), True)
FORMATS |= dict.fromkeys(("jpg", "jpeg", "jfif", "jpe", "webp", "avif"), False)


def facts_of(path: Path) -> FileFacts:
    return measure_file(path, decode_raw(path))


def write(path: Path, image: Image.Image | np.ndarray, **options) -> Path:
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
    assert find_images(tmp_path) == [path]
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
