"""What a client sends becomes an image of the detector's size, or one sentence."""

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFile

from kdad.errors import InputError
from kdad.images.files.fitting import Preparation
from kdad.serving.intake import ImageInput, TooLargeError
from serving_files import png


def bomb(height: int, width: int) -> bytes:
    """Return a PNG of a few hundred bytes that says it is of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.fixture
def intake(predictor) -> ImageInput:
    return ImageInput(predictor, 10_000)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_bytes_text_arrays_and_paths_are_the_same_image(tmp_path, intake, kind):
    content = png(51, kind=kind)
    (tmp_path / "image").write_bytes(content)
    given = [content, bytearray(content), base64.b64encode(content).decode()]
    images = [intake.prepare(one).image for one in given]
    images += [intake.prepare(path, paths=True).image for path in (str(tmp_path / "image"), tmp_path / "image")]
    for image in images:
        assert image.shape == (3, 8, 8)
        np.testing.assert_allclose(image, 51 / 255, atol=1 / 255 if kind in ("JPEG", "WEBP") else 1e-7)


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8, 3), 51, np.uint8),
        np.full((8, 8), 51, np.uint8),
        np.full((8, 8, 3), 51.0),
        np.full((8, 8, 3), 51).tolist(),
    ],
)
def test_arrays_are_whole_numbers_to_255(intake, array):
    np.testing.assert_allclose(intake.prepare(array).image, 0.2, rtol=1e-6)


def test_an_image_of_another_size_is_fitted_as_in_training(predictor):
    predictor.preparation = Preparation("letterbox", None)
    prepared = ImageInput(predictor).prepare(png(255, 8, 16), keep=True)
    assert (prepared.placement.shown.top, prepared.placement.shown.height) == (2, 4)
    assert prepared.original.shape == (3, 8, 16)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "it is empty"),
        (b"no image", "no image that can be read"),
        (png(1)[:50], "cannot be read"),
        ("/etc/passwd", "a path is not opened here"),
        (Path("/etc/passwd"), "a path is not opened here"),
        ("bm8gaW1hZ2U=", "no image that can be read"),
        ("bm8gaW1hZ2U", "not base64"),
        (None, "it is null"),
        (float("nan"), "it is null"),
        (7, "of the type int"),
        ({"image": 1}, "of the type dict"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\) is no image"),
        (np.zeros((0, 8, 3), np.uint8), "is no image"),
        (np.zeros(8, np.uint8), "is no image"),
        ([[1, 2], [3]], "unequal lengths"),
        (np.full((8, 8), np.nan), "NaN or infinite"),
        (np.full((8, 8), 0.5), "whole numbers from 0 to 255"),
        (np.full((8, 8), 256), "whole numbers from 0 to 255"),
        (np.full((8, 8), -1), "whole numbers from 0 to 255"),
        ([["a", "b"]], "whole numbers from 0 to 255"),
    ],
)
def test_what_is_no_image_is_one_sentence(intake, value, said):
    with pytest.raises(InputError, match=said) as caught:
        intake.prepare(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(101, 100), (60_000, 60_000), (9000, 9000)])
def test_a_bomb_is_refused_by_its_header(intake, monkeypatch, height, width):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("memory was taken for it"))
    with pytest.raises(TooLargeError, match="pixels"):
        intake.prepare(bomb(height, width))


def test_as_many_pixels_as_are_allowed_are_taken(intake):
    assert intake.prepare(png(0, 100, 100)).image.shape == (3, 8, 8)
    with pytest.raises(TooLargeError, match="100 x 101"):
        intake.prepare(np.zeros((100, 101, 3), np.uint8))


def test_a_path_that_there_is_not(tmp_path, intake):
    with pytest.raises(InputError, match="there is no file"):
        intake.prepare(tmp_path / "none.png", paths=True)
    with pytest.raises(InputError, match="neither a file nor base64"):
        intake.prepare(str(tmp_path / "none.png"), paths=True)
    with pytest.raises(InputError, match="neither a file nor base64"):
        intake.prepare("x" * 5000 + "\0", paths=True)
