"""Images read in threads: in order, not too far ahead, and faults where they belong."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.images import tiled_set
from kdad.images.files.decoding import decode_raw
from kdad.images.files.reading_ahead import read_ahead, reading_threads
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

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
        "kdad.images.files.raw_values.decode_raw", lambda path: decoded.append(path) or decode_raw(path)
    )
    assert len(list(images.images_of(np.arange(len(images.samples))))) == 24  # four of each image
    assert len(decoded) == len(set(decoded)) == 6
    assert isinstance(images, tiled_set.TiledSet)
