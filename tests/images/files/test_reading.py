"""An image is the same whichever way it comes, and what is none is refused."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.errors import InputError
from kdad.images import tiling
from kdad.images.files.decoding import decode_raw, read_ahead, read_image, reading_threads
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

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
    alpha = np.zeros((4, 5), np.uint8)
    alpha[0] = 255
    over = read_image(Image.fromarray(np.dstack([_BYTES, alpha])))
    _check(over, np.where(alpha[None] > 0, _EXPECTED, 1))


def test_an_alpha_of_0_everywhere_says_nothing():
    clear = Image.fromarray(np.dstack([_BYTES, np.zeros((4, 5), np.uint8)]))
    _check(read_image(clear), _EXPECTED)


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


_PATIENCE = 20.0  # seconds that threads have to meet


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)  # the test's own one is put back by a fixture of all


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order(threads):
    def read(number):
        time.sleep(0.002 * (number % 3 == 0))  # the first of three is the last to be done
        return number**2

    assert list(read_ahead(read, iter(range(30)), threads, ahead=5)) == [number**2 for number in range(30)]


def test_nothing_to_read_is_no_fault():
    assert list(read_ahead(int, [], 2)) == []


def test_threads_read_at_the_same_time():
    meeting = threading.Barrier(2, timeout=_PATIENCE)  # raises for one that comes alone
    assert len(list(read_ahead(lambda _: meeting.wait(), range(4), 2))) == 4


def test_without_threads_nothing_is_read_before_it_is_asked_for():
    begun = []
    found = read_ahead(lambda number: begun.append(number) or threading.current_thread(), range(5), 0)
    assert begun == []
    assert next(found) is threading.main_thread()
    assert begun == [0]


def test_no_more_is_read_ahead_than_was_said():
    begun = []
    found = read_ahead(lambda number: begun.append(number) or number, range(50), 2, ahead=4)
    for taken in range(1, 6):
        next(found)
        time.sleep(0.02)
        assert len(begun) == taken + 4
    found.close()
    assert len(begun) == 9


def test_a_fault_is_raised_in_the_place_of_its_result():
    begun = []

    def read(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        return number

    found = read_ahead(read, range(50), 2, ahead=4)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(found)
    assert max(begun) < 10


def test_as_many_threads_read_as_torch_may_use(two_threads):
    assert reading_threads() == 2
    torch.set_num_threads(1)
    assert reading_threads() == 0


def _folder(root, count, size):
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        place = root / "part" / part / "good"
        place.mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return {"name": "folder", "root": str(root), "category": "part", "image_size": 32}


def test_images_of_a_folder_are_those_that_are_read_one_by_one(tmp_path, two_threads):
    images = open_image_set(DatasetParameters(**_folder(tmp_path, 6, (50, 40))))
    rows = np.array([7, 0, 11, 3])
    for found, row in zip(images.images_of(rows), rows, strict=True):
        np.testing.assert_array_equal(found, images.image(row))


def test_an_image_is_decoded_once_for_all_its_tiles(tmp_path, two_threads, monkeypatch):
    block = _folder(tmp_path, 3, (64, 64))
    images = open_image_set(DatasetParameters(**block, tiles={"size": 32, "overlap": 0}))
    decoded = []
    monkeypatch.setattr(
        "kdad.images.files.file_facts.decode_raw", lambda path, *more: decoded.append(path) or decode_raw(path, *more)
    )
    assert len(list(images.images_of(np.arange(len(images.samples))))) == 24  # four of each image
    assert len(decoded) == len(set(decoded)) == 6
    assert isinstance(images, tiling.TiledSet)
