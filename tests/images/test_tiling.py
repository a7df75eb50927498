"""Tiles cover an image, share what they should, and their weights are a partition of unity."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdad.errors import InputError
from kdad.images.registry import open_image_set
from kdad.images.splits import split_samples, whole_name
from kdad.images.tiling import TileGrid, Tiling
from kdad.parameters.dataset import DatasetParameters, TileParameters
from kdad.storage.content_store import ContentStore


@settings(deadline=None, max_examples=150)
@given(
    own=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    share=st.floats(0, 0.5),
)
def test_weights_sum_to_one_everywhere_and_neighbours_share_enough(own, size, share):
    overlap = int(share * min(size))
    grid = TileGrid(own, Tiling(size, overlap))
    total, tops, lefts = np.zeros(own), set(), set()
    for number in grid:
        box, weights = grid.boxes[number], grid.weights(number)
        assert weights.shape == (box.height, box.width) == (min(size[0], own[0]), min(size[1], own[1]))
        assert box.top >= 0 and box.top + box.height <= own[0] and box.left >= 0 and box.left + box.width <= own[1]
        assert weights.min() >= 0
        box.cut(total)[...] += weights
        tops.add(box.top)
        lefts.add(box.left)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for starts, side in ((sorted(tops), size[0]), (sorted(lefts), size[1])):
        assert all(later - one <= side - overlap for one, later in pairwise(starts))
    assert len(grid) == len(tops) * len(lefts)


def test_tiles_by_hand():
    grid = TileGrid((10, 22), Tiling((10, 10), 4))
    assert [(box.top, box.left) for box in grid.boxes] == [(0, 0), (0, 6), (0, 12)]
    first, second = grid.weights(0)[0], grid.weights(1)[0]
    np.testing.assert_allclose(first[:7], 1)  # pixel 6, an eighth into the shared four, is the first tile's alone
    # At 3/8 of the shared pixels a quarter of the ramp is behind: (1 - cos(pi / 4)) / 2.
    assert second[1] == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert first[7] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert (second[0], first[9]) == (0, 0)  # next to its border a tile has no say


def test_the_border_of_the_image_is_its_tiles_own():
    grid = TileGrid((30, 30), Tiling((20, 20), 8))
    corner = grid.weights(0)
    assert corner[0, 0] == corner[9, 9] == 1 and corner[-1, -1] == 0


def test_a_narrow_image_is_filled_up_with_its_border():
    grid = TileGrid((3, 30), Tiling((8, 16), 4))
    image = np.arange(90, dtype=np.float32).reshape(1, 3, 30)
    assert [box.left for box in grid.boxes] == [0, 7, 14]
    tile = grid.cut(image, 2)
    assert tile.shape == (1, 8, 16)
    np.testing.assert_array_equal(tile[0, :3], image[0, :, 14:30])
    np.testing.assert_array_equal(tile[0, 3:], np.repeat(image[0, 2:, 14:30], 5, axis=0))


@pytest.mark.parametrize(
    ("given_size", "overlap", "detector", "size", "shared"),
    [
        (None, None, (256, 256), (256, 256), 64),
        (None, None, (64, 128), (64, 128), 16),
        (512, None, (64, 128), (256, 512), 64),
        (100, 50, (64, 64), (100, 100), 50),
        (None, 0, (64, 64), (64, 64), 0),
    ],
)
def test_tiles_have_the_detectors_proportions(given_size, overlap, detector, size, shared):
    assert Tiling.of(TileParameters(size=given_size, overlap=overlap), detector) == Tiling(size, shared)


def test_more_than_half_is_not_shared():
    with pytest.raises(ValueError, match="overlap 60 is more than half of size 100"):
        TileParameters(size=100, overlap=60)
    with pytest.raises(InputError, match="overlap 40 is more than half of a tile of 64 x 128; give at most 32"):
        Tiling.of(TileParameters(overlap=40), (64, 128))


def test_what_one_tile_holds():
    tiling = Tiling((20, 30), 4)
    assert tiling.hold_whole((20, 30)) and tiling.hold_whole((1, 1))
    assert not tiling.hold_whole((21, 30)) and not tiling.hold_whole((20, 31))


SIZE, OVERLAP = 32, 8


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """Four normal images of 60 x 80 and a small one to train on; two normal, two anomalous ones to test."""
    generator = np.random.default_rng(0)
    base = tmp_path / "sheet"
    for name in (*(f"train/good/{number}" for number in range(4)), "test/good/0", "test/hole/0", "test/hole/1"):
        _save(base / f"{name}.png", generator.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    _save(base / "train/good/small.png", generator.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    mask = np.zeros((60, 80), np.uint8)
    mask[50:55, 70:75] = 255
    _save(base / "ground_truth/hole/0_mask.png", mask)
    return tmp_path


def _open(folder, store=None, **given):
    tiles = {"size": SIZE, "overlap": OVERLAP}
    block = {"name": "folder", "root": str(folder), "category": "sheet", "image_size": SIZE, "tiles": tiles}
    return open_image_set(DatasetParameters(**block | given), store=store)


def test_tiles_are_the_image_in_parts(root):
    images = _open(root)
    grid = TileGrid((60, 80), Tiling((SIZE, SIZE), OVERLAP))
    assert len(grid) == 9  # rows: ceil(52 / 24) = 3, columns: ceil(72 / 24) = 3
    with Image.open(root / "sheet/train/good/2.png") as file:
        pixels = np.asarray(file).transpose(2, 0, 1).astype(np.float32) / 255
    rows = [row for row, sample in enumerate(images.samples) if whole_name(sample.id) == "train/good/2.png"]
    assert len(rows) == 9
    for row, box in zip(rows, grid.boxes, strict=True):
        assert images.samples[row].id == f"train/good/2.png#tile={box.top},{box.left}"
        np.testing.assert_allclose(images.image(row), box.cut(pixels), atol=1e-6)
        assert images.own_size(row) == (SIZE, SIZE)
    prints = [images.fingerprint(row) for row in range(len(images.samples))]
    assert len(set(prints)) == len(prints)


def test_an_image_that_one_tile_holds_stays_whole(root):
    images = _open(root)
    (row,) = [row for row, sample in enumerate(images.samples) if "small" in sample.id]
    assert images.samples[row].id == "train/good/small.png"
    np.testing.assert_array_equal(images.image(row), _open(root, tiles=None).image(4))


def test_tiles_of_an_anomalous_image_are_labelled_by_its_mask(root):
    images = _open(root)
    hole = [(row, sample) for row, sample in enumerate(images.samples) if sample.id.startswith("test/hole/0")]
    marked = [(row, sample) for row, sample in hole if sample.label]
    # Rows start at 0, 14, 28 and columns at 0, 24, 48: 50..55 is in the last row alone, 70..75 in the last column.
    assert [sample.id for _, sample in marked] == ["test/hole/0.png#tile=28,48"]
    row = marked[0][0]
    expected = np.zeros((SIZE, SIZE), bool)
    expected[22:27, 22:27] = True
    np.testing.assert_array_equal(images.own_mask(row), expected)
    np.testing.assert_array_equal(images.mask(row), expected)
    assert marked[0][1].kind == "hole" and marked[0][1].has_mask
    others = [sample for _, sample in hole if not sample.label]
    assert len(others) == 8 and {(sample.kind, sample.subset, sample.has_mask) for sample in others} == {
        ("good", "test", False)
    }


def test_without_a_mask_an_anomalous_image_is_left_out_and_said(root):
    images = _open(root)
    assert not any(sample.id.startswith("test/hole/1") for sample in images.samples)
    said = dict(images.remarks())["tiles"]
    assert said.startswith("6 images in 54 of 32 x 32 with 8 pixels shared or more")
    assert "1 anomalous images without a mask are left out" in said


@pytest.mark.parametrize("seed", range(5))
def test_tiles_of_one_image_are_never_in_two_parts(root, seed):
    images = _open(root)
    parts = split_samples(images.samples, 0.4, seed)
    by_image: dict[str, set[str]] = {}
    for sample, part in zip(images.samples, parts, strict=True):
        by_image.setdefault(whole_name(sample.id), set()).add(part)
    assert all(len(found) == 1 for found in by_image.values())
    assert sum(found == {"validation"} for found in by_image.values()) == 2  # 40 % of five images


def test_one_large_image_cannot_be_divided(root):
    images = _open(root)
    one = [sample for sample in images.samples if whole_name(sample.id) == "train/good/0.png"]
    with pytest.raises(InputError, match="there are 1 normal training images"):
        split_samples(one, 0.1, 0)


def test_tiles_of_another_size_are_resized(root):
    images = _open(root, tiles={"size": 48, "overlap": 0}, image_size=24)
    assert images.image(0).shape == (3, 24, 24)
    assert images.own_size(0) == (48, 48)


def test_a_file_that_cannot_be_read_is_a_problem_by_its_name(root):
    (root / "sheet/train/good/1.png").write_bytes(b"no image")
    assert any("train/good/1.png: cannot be read" in problem for problem in _open(root).problems())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "textures", "category": "brick", "root": None}, "tiles does not go with textures"),
        ({"contamination": 0.1}, "contamination is of whole images"),
    ],
)
def test_what_has_no_tiles(root, given, message):
    with pytest.raises(ValueError, match=message):
        _open(root, **given)


def test_tiles_have_a_place_of_their_own(root):
    block = {"name": "folder", "root": str(root), "category": "sheet", "image_size": SIZE}
    assert DatasetParameters(**block, tiles={"size": 64, "overlap": 8}).category_name == "sheet_tiles_64_8"
    assert DatasetParameters(**block, tiles={}).category_name == "sheet_tiles"
    assert DatasetParameters(**block).category_name == "sheet"


@pytest.fixture
def regional(root):
    """The same with a region of the left half, and the lower two thirds of a training image ignored."""
    counts, lower = np.indices((60, 80))[1] < 40, np.indices((60, 80))[0] >= 20
    _save(root / "region.png", counts.astype(np.uint8) * 255)
    _save(root / "sheet/ignore/train/good/1.png", lower.astype(np.uint8) * 255)
    (root / "sheet/train/good/small.png").unlink()
    mask = np.zeros((60, 80), np.uint8)
    mask[50:55, 30:75] = 255
    _save(root / "sheet/ground_truth/hole/0_mask.png", mask)
    return root


def test_each_tile_takes_its_part_of_a_region(regional):
    images = _open(regional, region=str(regional / "region.png"))
    assert not images.problems()
    by_image: dict[str, list[str]] = {}
    for sample in images.samples:
        by_image.setdefault(whole_name(sample.id), []).append(sample.id.split("=")[1])
    # Rows start at 0, 14 and 28, columns at 0, 24 and 48, where nothing counts; nor do rows from 28 of image 1.
    six = [f"{top},{left}" for top in (0, 14, 28) for left in (0, 24)]
    assert by_image.pop("train/good/1.png") == six[:4]
    assert set(map(tuple, by_image.values())) == {tuple(six)}
    said = dict(images.remarks())["tiles"]
    assert "20 of which no pixel counts are left out" in said  # 6 images of 3, and 2 more
    rows = {sample.id: row for row, sample in enumerate(images.samples)}
    with Image.open(regional / "sheet/test/hole/0.png") as file:
        pixels = np.asarray(file).transpose(2, 0, 1).astype(np.float32) / 255
    row = rows["test/hole/0.png#tile=28,24"]
    inside = np.indices((SIZE, SIZE))[1] < 16
    np.testing.assert_allclose(images.image(row)[:, inside], pixels[:, 28:60, 24:40].reshape(3, -1), atol=1e-6)
    assert (images.image(row)[:, ~inside] == 0.5).all()
    marked = np.zeros((SIZE, SIZE), bool)
    marked[22:27, 6:16] = True  # the defect's mask ends at the region
    np.testing.assert_array_equal(images.mask(row), marked)
    for ignored in (images.ignored(row), images.own_ignored(row)):
        np.testing.assert_array_equal(ignored, ~inside)
    row = rows["train/good/1.png#tile=14,24"]
    np.testing.assert_array_equal(images.own_ignored(row), ~(inside & (np.indices((SIZE, SIZE))[0] < 6)))
    assert images.preparation.in_tiles and images.preparation.region_at(images.size) is None
    kept = _open(regional, region=str(regional / "region.png"), store=ContentStore(regional / "store"))
    for row in range(len(images.samples)):
        np.testing.assert_array_equal(kept.image(row), images.image(row))
        np.testing.assert_array_equal(kept.mask(row), images.mask(row))


def test_a_region_that_one_tile_holds_or_of_another_size(regional):
    with pytest.raises(InputError, match=r"one tile of 80 x 80 with 8 pixels shared holds the 60 x 80 pixels of"):
        _open(regional, region=str(regional / "region.png"), tiles={"size": 80, "overlap": OVERLAP})
    _save(regional / "region.png", np.full((60, 81), 255, np.uint8))
    problems = _open(regional, region=str(regional / "region.png")).problems()
    assert any("dataset.region: 7 of 7 images are of another size" in problem for problem in problems)
