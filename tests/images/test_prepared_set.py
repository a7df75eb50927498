"""Images, masks and facts of files that are decoded once, by whichever process asks first."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdad.errors import InputError
from kdad.images import image_set
from kdad.images.checks import check_images
from kdad.images.files import file_facts, mask_files
from kdad.images.image_set import ImageSet, PreparedSet
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore
from projects import FEW


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """Every file whose pixels were decoded, masks too."""
    files: list[Path] = []
    for module, name in ((file_facts, "decode_raw"), (mask_files, "read_mask")):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, *more, read=read: files.append(path) or read(path, *more))
    return files


@pytest.fixture(params=["uint8", "uint16"])
def root(tmp_path, request) -> Path:
    """Six training images and four test images, two of them with masks, of 40 x 30 pixels."""
    generator = np.random.default_rng(0)
    for number in range(6):
        _write(generator, tmp_path / f"set/train/good/{number}.png", request.param)
    for number in range(2):
        _write(generator, tmp_path / f"set/test/good/{number}.png", request.param)
        _write(generator, tmp_path / f"set/test/hole/{number}.png", request.param)
        mask = np.zeros((40, 30), np.uint8)
        mask[10 + number : 20, 3:17] = 255
        path = tmp_path / f"set/ground_truth/hole/{number}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return tmp_path / "set"


def _write(generator: np.random.Generator, path: Path, dtype: str) -> None:
    low, high = (0, 256) if dtype == "uint8" else (20_000, 24_000)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(low, high, (40, 30)).astype(dtype)).save(path)


def _block(root: Path, **given) -> DatasetParameters:
    return DatasetParameters(**{"name": "folder", "root": str(root), "image_size": 16} | given)


def _assert_same(images: ImageSet, expected: ImageSet) -> None:
    assert images.samples == expected.samples
    assert images.preparation == expected.preparation
    assert images.remarks() == expected.remarks()
    for row in range(len(expected.samples)):
        np.testing.assert_array_equal(images.image(row), expected.image(row))
        assert images.facts(row) == expected.facts(row)
        assert images.fingerprint(row) == expected.fingerprint(row)
        assert images.own_size(row) == expected.own_size(row)
        for which in ("mask", "own_mask"):
            mask, other = getattr(images, which)(row), getattr(expected, which)(row)
            assert (mask is None) == (other is None)
            np.testing.assert_array_equal(mask, other)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"fit": "letterbox"},
        {"fit": "centre_crop", "value_range": "data"},
        {"tiles": {"size": 16, "overlap": 0}},
        {"contamination": 0.2},
        {"contamination": 0.1, "contamination_by": "test"},
    ],
)
def test_everything_is_as_without_a_store(root, tmp_path, given):
    expected = open_image_set(_block(root, **given))
    check_images(expected)
    store = ContentStore(tmp_path / "store")
    for _ in range(2):  # made, then found
        images = open_image_set(_block(root, **given), 0, store)
        check_images(images)
        _assert_same(images, expected)


@pytest.mark.parametrize("given", [{}, {"tiles": {"size": 16, "overlap": 0}}])
def test_each_file_is_decoded_once_whoever_asks(root, tmp_path, decoded, given):
    store = ContentStore(tmp_path / "store")
    open_image_set(_block(root, **given), 0, store)
    decoded.clear()  # masks of tiles are read where tiles are labelled
    for _ in range(2):
        images = open_image_set(_block(root, **given), 0, store)
        if given:
            decoded[:] = [path for path in decoded if "ground_truth" not in str(path)]
        check_images(images)
        assert len(list(images.images_of(np.arange(len(images.samples))))) == len(images.samples)
        for row in range(len(images.samples)):
            images.facts(row), images.mask(row), images.own_mask(row)
    of_images = [path for path in decoded if "ground_truth" not in str(path)]
    assert len(of_images) == len(set(of_images)) == 10
    if not given:
        assert len(decoded) == len(set(decoded)) == 12


def test_raw_values_without_room_are_decoded_again(root, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(file_facts, "_MOST", 0.0)
    images = open_image_set(_block(root, value_range="data"), 0, ContentStore(tmp_path / "store"))
    check_images(images)
    training = [path for path in decoded if "train" in str(path)]
    # a tenth of six, at least one and at most half, is held out: the others are looked at for their range
    assert len(set(training)) == 6 < len(training) < 12
    _assert_same(images, open_image_set(_block(root, value_range="data")))


def test_images_without_room_are_decoded_when_asked_for(root, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(image_set, "_MOST", 0.0)
    images = open_image_set(_block(root), 0, ContentStore(tmp_path / "store"))
    check_images(images)
    assert images.images_file is None
    decoded.clear()
    np.testing.assert_array_equal(images.image(3), open_image_set(_block(root)).image(3))
    assert decoded


@pytest.mark.parametrize("name", ["train/good/1.png", "ground_truth/hole/0_mask.png"])
def test_a_changed_file_is_decoded_again(root, tmp_path, name):
    store = ContentStore(tmp_path / "store")
    check_images(open_image_set(_block(root), 0, store))
    other = root / name.replace("1.png", "2.png").replace("0_mask", "1_mask")
    (root / name).write_bytes(other.read_bytes())
    images = open_image_set(_block(root), 0, store)
    expected = open_image_set(_block(root))
    check_images(expected)
    _assert_same(images, expected)


def test_problems_are_listed_and_nothing_is_kept(root, tmp_path):
    (root / "train/good/1.png").write_text("no image")
    (root / "test/hole/0.png").write_text("no image")
    store = ContentStore(tmp_path / "store")
    images = open_image_set(_block(root), 0, store)
    problems = images.problems()
    assert len(problems) == 2
    assert any("good/1.png" in problem for problem in problems)
    assert any("hole/0.png" in problem for problem in problems)
    with pytest.raises(InputError, match="cannot be read as an image"):
        images.image(0)
    assert not [path for path in store.root.iterdir() if path.is_dir()]


def test_textures_are_drawn_once(tmp_path, monkeypatch):
    block = DatasetParameters(name="textures", category="brick", image_size=32, textures=FEW)
    expected = open_image_set(block)
    images = open_image_set(block, 0, ContentStore(tmp_path / "store"))
    assert isinstance(images, PreparedSet)
    check_images(images)
    monkeypatch.setattr(type(expected), "_draw", lambda *_: pytest.fail("an image is drawn again"))
    again = open_image_set(block, 0, ContentStore(tmp_path / "store"))
    pictures = [again.image(row) for row in range(len(again.samples))]
    masks = [again.mask(row) for row in range(len(again.samples))]
    fingerprints = [again.fingerprint(row) for row in range(len(again.samples))]
    monkeypatch.undo()
    for row in range(len(expected.samples)):
        np.testing.assert_array_equal(pictures[row], expected.image(row))
        np.testing.assert_array_equal(masks[row], expected.mask(row))
        assert fingerprints[row] == expected.fingerprint(row)
