"""An image is the same whichever way it comes, and what is none is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.files.reading import find_images, read_image

_BYTES = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
_EXPECTED = _BYTES.transpose(2, 0, 1).astype(np.float64) / 255


@pytest.fixture
def png(tmp_path) -> Path:
    """A file of 4 x 5 pixels."""
    Image.fromarray(_BYTES).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def _check(found, expected=_EXPECTED):
    assert (found.shape, found.dtype, found.flags.c_contiguous) == (expected.shape, np.float32, True)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_path_a_pillow_image_and_an_array_are_the_same_image(png):
    for given in (png, str(png), Image.open(png), Image.fromarray(_BYTES), _BYTES, np.asfortranarray(_BYTES)):
        _check(read_image(given))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(dtype):
    given = (_BYTES / 255).astype(dtype)
    _check(read_image(given), given.astype(np.float64).transpose(2, 0, 1))


def test_grey_becomes_three_equal_channels():
    grey = _BYTES[..., 0]
    for given in (grey, grey[..., None], Image.fromarray(grey)):
        _check(read_image(given), np.repeat(grey[None] / 255, 3, axis=0))


def test_the_array_that_was_given_is_not_changed_by_what_is_done_with_the_image():
    given = np.full((2, 2, 3), 0.5, np.float32)
    read_image(given)[:] = 0
    assert (given == 0.5).all()


def test_the_home_folder_is_found(png, monkeypatch):
    monkeypatch.setenv("HOME", str(png.parent))
    _check(read_image("~/image.png"))


def test_a_pillow_image_is_turned_upright_as_its_file_is(tmp_path):
    image = Image.fromarray(_BYTES)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        _check(read_image(opened), np.rot90(_EXPECTED, -1, axes=(1, 2)))
    _check(read_image(tmp_path / "turned.png"), np.rot90(_EXPECTED, -1, axes=(1, 2)))


def test_transparency_is_over_white():
    clear = Image.fromarray(np.dstack([_BYTES, np.zeros((4, 5), np.uint8)]))
    _check(read_image(clear), np.ones((3, 4, 5)))


def test_a_pillow_image_that_is_cut_off_is_an_input_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(InputError, match="the image: cannot be read"):
        read_image(opened)
    with pytest.raises(InputError, match=r"cut\.png: cannot be read"):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(3, np.uint8), r"shape \(3,\) is no image"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\) is no image; give \(H, W\) or \(H, W, 3\)"),
        (np.zeros((4, 5, 4), np.uint8), "is no image"),
        (np.zeros((4, 5, 2), np.uint8), "is no image"),
        (np.zeros((1, 4, 5, 3), np.uint8), "is no image"),
        (np.zeros((0, 5, 3), np.uint8), "is no image"),
        (None, "is no image"),
        (np.zeros((4, 5), np.int64), "uint8, or float in .0, 1., and this is int64"),
        (np.zeros((4, 5), bool), "this is bool"),
        (np.full((4, 5), 255.0), "float in .0, 1."),
        (np.full((4, 5), -0.1), "float in .0, 1."),
        (np.full((4, 5), np.nan), "float in .0, 1."),
        (np.full((4, 5), np.inf), "float in .0, 1."),
    ],
)
def test_an_array_that_is_no_image(given, message):
    with pytest.raises(InputError, match=message):
        read_image(given)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.png"):
        read_image(tmp_path / "none.png")


@pytest.fixture
def tree(tmp_path) -> Path:
    """Images at several depths, among other things."""
    names = ("b.png", "a.JPG", "c/d/e.tiff", "c/a.webp", "notes.txt", ".hidden.png", ".cache/f.png", "c/.g/h.png", "x")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_images_are_found_at_any_depth_in_order_without_hidden_ones(tree):
    found = [path.relative_to(tree).as_posix() for path in find_images(tree)]
    assert found == ["a.JPG", "b.png", "c/a.webp", "c/d/e.tiff"]


def test_a_folder_below_a_hidden_one_is_searched_when_asked_for(tree):
    assert [path.name for path in find_images(tree / ".cache")] == ["f.png"]


def test_a_single_file_is_itself(tree):
    assert find_images(tree / "x") == [tree / "x"]


def test_nothing_there_and_no_images(tree):
    with pytest.raises(InputError, match=r"there is no file or folder '.*none'"):
        find_images(tree / "none")
    with pytest.raises(InputError, match=r"folder\.png' holds no images \(avif, bmp, gif, j2k, .*, tiff, webp\)"):
        find_images(tree / "folder.png")
