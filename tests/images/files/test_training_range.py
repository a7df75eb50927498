"""The range of a folder's training images."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images.files.training_range import find_range, say_range
from kdad.images.files.value_range import EIGHT_BITS, ValueRange


def write(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def ramp(dtype, low, high) -> np.ndarray:
    return np.linspace(low, high, 400).reshape(20, 20).astype(dtype)


@pytest.fixture
def thermal(tmp_path) -> list[Path]:
    """Four images of 16 bits whose values lie in 51,000..52,000, one with a dead pixel."""
    pixels = [np.repeat(np.uint16([51000, 52000]), 1000).reshape(40, 50) for _ in range(4)]
    pixels[2][0, 0] = 0
    return [write(tmp_path / f"{number}.png", values) for number, values in enumerate(pixels)]


def test_eight_bits_stay_as_they_are_without_being_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", ramp("uint8", 100, 110))
    monkeypatch.setattr("kdad.images.files.training_range.decode_raw", None)
    assert find_range([path], "auto") == EIGHT_BITS


def test_eight_bits_are_looked_at_when_that_is_asked_for(tmp_path):
    path = write(tmp_path / "a.png", np.repeat(np.uint8([100, 140]), 200).reshape(20, 20))
    assert find_range([path], "data") == ValueRange(kind="8-bit", low=90, high=150)


def test_wide_values_are_scaled_by_what_all_images_use(thermal):
    # 1,000 are used, a quarter more at either side; the dead pixel is one of 2,000
    assert find_range(thermal, "auto") == ValueRange(kind="integer", low=50750, high=52250)


def test_the_types_limits_and_given_ones(thermal):
    assert find_range(thermal, "type") is None
    assert find_range(thermal, [0, 4095]) == ValueRange(kind="integer", low=0, high=4095)


def test_floats_of_any_range(tmp_path):
    path = write(tmp_path / "a.tif", np.repeat(np.float32([20, 36]), 200).reshape(20, 20))
    assert find_range([path], "auto") == ValueRange(kind="float", low=16, high=40)


def test_several_kinds_are_named(thermal, tmp_path):
    other = write(tmp_path / "other.png", ramp("uint8", 0, 255))
    with pytest.raises(InputError, match=r"several kinds.*integer \(.*0\.png\), 8-bit \(.*other\.png\).*=type"):
        find_range([*thermal, other], "auto")
    assert find_range([*thermal, other], "type") is None


def test_files_that_cannot_be_read_are_left_to_those_that_name_them(thermal, tmp_path):
    torn, cut = tmp_path / "torn.png", tmp_path / "cut.png"
    torn.write_text("no image")
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    cut.write_bytes(write(cut, noise).read_bytes()[:2000])
    assert find_range([torn, *thermal, cut], "auto") == find_range(thermal, "auto")
    assert find_range([torn], "auto") == EIGHT_BITS


def test_what_is_scaled_is_logged_and_bad_use_is_a_warning(caplog):
    with caplog.at_level(logging.INFO, logger="kdad"):
        assert say_range(EIGHT_BITS, [(0, 250)]).startswith("8-bit values, of which training images use 0 to 250 ")
        assert "use 11.8% of the range" in say_range(EIGHT_BITS, [(100, 130)])
        assert say_range(None, []) == "each file by its type's limits (dataset.value_range)"
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING", "INFO"]
