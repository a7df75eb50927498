"""Images are turned to lie as the training images do, their masks with them, and maps are turned back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from skimage.transform import rotate

from kdad.images.checks import check_images
from kdad.images.files.fitting import Alignment, Preparation, place, turn
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore
from layout_trees import open_set, write_all, write_mask

SIDE = 61


def part(seed: int = 0, degrees: float = 0.0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Return a round part with one notch and two holes, noisy, turned anticlockwise; `(3, H, W)` in [0, 1]."""
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    radius = np.hypot(y, x)
    grey = np.where(radius < 26, 0.4, 0.9)
    for angle, distance, size, value in ((0, 26, 8, 0.9), (100, 14, 5, 0.1), (200, 18, 4, 0.7)):
        radians = math.radians(angle + degrees)
        # Rows count downwards, so that anticlockwise is towards smaller ones.
        grey[np.hypot(y + distance * math.sin(radians), x - distance * math.cos(radians)) < size] = value
    noise = np.random.default_rng(seed).normal(0, 0.02, shape)
    return np.clip(np.broadcast_to(grey + noise, (3, *shape)), 0, 1).astype(np.float32)


def test_turning_by_hand_and_as_scikit_image():
    image = part()
    np.testing.assert_allclose(turn(image, 90), np.rot90(image, axes=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(turn(image, 37)[0], rotate(image[0], 37, mode="edge"), atol=1e-5)
    wide = np.zeros((1, 4, 8), np.float32)
    wide[0, 1, 6] = 1
    # Stretched to twice its width, (y, x) = (-0.5, 2.5) from the middle is (-0.5, 1.25) of its own: turned by a quarter
    # (-1.25, -0.5), and so (-1.25, -1) again. A quarter of a row below row 0, between columns 2 and 3.
    expected = np.zeros((4, 8))
    expected[0, 1:5] = 0.5 * np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(turn(wide, 90, 2.0, fill=0)[0], expected, atol=1e-5)
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 0, 1:4] = True
    assert turn(mask, 90, nearest=True, fill=0)[0].tolist() == np.rot90(mask[0]).tolist()


def test_parts_in_any_pose_come_to_lie_as_one():
    angles = np.random.default_rng(0).uniform(0, 360, 12)
    alignment = Alignment.of(part(seed, angle) for seed, angle in enumerate(angles))
    for seed, degrees in enumerate((0, 10, 95, 181.5, 300)):
        # The first lies as it did, and so others are turned until they do.
        off = alignment.angle(part(seed + 50, degrees)) - (angles[0] - degrees)
        assert abs((off + 180) % 360 - 180) <= 2
    wide = alignment.angle(part(1, 40, (SIDE, SIDE + 40))) - alignment.angle(part(1, 40))
    assert abs((wide + 180) % 360 - 180) <= 1
    assert alignment.angle(np.full((3, 20, 20), 0.5, np.float32)) == 0
    assert Alignment(**json.loads(alignment.model_dump_json())) == alignment
    for wrong in ("no base64", alignment.packed[:40], "eJwDAAAAAAE="):
        with pytest.raises(ValidationError, match=r"its text (cannot be read|has)"):
            Alignment(packed=wrong)


@pytest.mark.parametrize("fit", ["resize", "letterbox", "centre_crop"])
def test_maps_are_turned_back_in_any_fit(fit):
    alignment = Alignment.of([part(0)])
    image = part(1, 70, (SIDE, SIDE + 24))
    preparation = Preparation(fit, alignment=alignment)
    size = (48, 48)
    fitted, placed = preparation.placed(image, size)
    assert placed.turned == pytest.approx(290, abs=2)
    assert placed.of_size(20, 30).turned == placed.turned
    # Where the turned image goes back to, the image itself lies.
    seen, (unturned, _, _) = fitted[0], Preparation(fit).placed(image, size)[0]
    back = placed.turn_back(seen)
    y, x = np.indices(size) - 23.5
    inner = np.hypot(y, x) < 14
    assert np.abs(back - unturned)[inner].mean() < 0.03 < np.abs(seen - unturned)[inner].mean()
    assert Preparation(fit).placed(image, size)[1].turn_back(seen) is seen


@pytest.mark.parametrize(
    ("fit", "own", "column"),
    [
        # Columns 1 to 5 of 8 show the image: 2 is its second, of which the half turn makes its fourth.
        ("letterbox", (8, 5), 4),
        ("letterbox", (16, 10), 4),
        # Its columns 1 to 8 of 11 are shown: 2 is its column 3, of which the half turn makes 7.
        ("centre_crop", (8, 11), 6),
        ("resize", (8, 5), 5),
    ],
)
def test_maps_are_turned_back_about_the_images_middle(fit, own, column):
    seen = np.zeros((8, 8), np.float32)
    seen[1, 2] = 1
    back = replace(place(own, (8, 8), fit), turned=180.0).turn_back(seen)
    expected = np.zeros((8, 8))
    expected[6, column] = 1
    np.testing.assert_allclose(back, expected, atol=1e-5)


def write_parts(base, folder: str, count: int, start: int, marked: bool = False) -> None:
    """Write parts in poses of their own; `marked` ones have a bright spot, in a mask too."""
    for number in range(count):
        image = part(start + number, 53.0 * (start + number))
        path = base / folder / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if marked:
            spot = np.zeros((SIDE, SIDE), bool)
            spot[10 + 5 * number : 16 + 5 * number, 30:36] = True
            image = np.where(spot, np.float32(1), image)
            mask = base / f"ground_truth/spot/{number:03d}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(spot.astype(np.uint8) * 255).save(mask)
        Image.fromarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)).save(path)


def test_a_set_is_turned_with_its_masks_and_so_it_is_when_it_was_kept(tmp_path, monkeypatch):
    write_parts(tmp_path, "train/good", 6, 0)
    write_parts(tmp_path, "test/good", 2, 20)
    write_parts(tmp_path, "test/spot", 3, 40, marked=True)
    block = {"name": "folder", "root": str(tmp_path), "image_size": 48}
    plain = open_image_set(DatasetParameters(**block))
    aligned = DatasetParameters(**block, align="rotation")
    images = open_image_set(aligned)
    check_images(images)
    assert images.category == f"{tmp_path.name}_aligned"
    assert (
        "alignment",
        "each image is turned about its middle, as the mean of training images lies",
    ) in images.remarks()
    rows = range(len(images.samples))
    inner = np.hypot(*(np.indices((48, 48)) - 23.5)) < 20

    def unlike(one, other):
        return np.abs(one.image(other)[0] - one.image(0)[0])[inner].mean()

    good = [row for row in rows if not images.samples[row].label]
    assert max(unlike(images, row) for row in good) < 0.04 < min(unlike(plain, row) for row in good[1:])
    kept = [open_image_set(aligned, store=ContentStore(tmp_path / "store")) for _ in range(2)]
    for row in rows:
        for one in kept:
            np.testing.assert_array_equal(one.image(row), images.image(row))
            np.testing.assert_array_equal(one.mask(row), images.mask(row))
            np.testing.assert_array_equal(one.own_mask(row), images.own_mask(row))
            assert one.fingerprint(row) == images.fingerprint(row) != plain.fingerprint(row)
        if images.samples[row].has_mask:
            # The spot is the brightest inside of the part, and its mask moved with it.
            mask, image = images.mask(row), images.image(row)[0]
            assert np.median(image[mask]) > 0.95
            assert images.own_mask(row).shape == (SIDE, SIDE)
            assert (mask != plain.mask(row)).any()
    asked = []
    monkeypatch.setattr(Alignment, "angle", lambda self, image: asked.append(image) or 90.0)
    for one in (again := open_image_set(aligned), kept[0]):
        for made in (one.mask, one.own_mask, one.image):
            made(rows[-1])
    assert len(asked) == 1
    np.testing.assert_array_equal(again.own_mask(rows[-1]), np.rot90(plain.own_mask(rows[-1])))
    assert kept[0].preparation == kept[1].preparation == images.preparation
    assert images.content() != plain.content()


def test_what_does_not_go_with_turned_images(tmp_path):
    block = {"name": "folder", "root": "x", "image_size": 16, "align": "rotation"}
    for more, problem in (
        ({"tiles": {}}, "align turns whole images, and tiles is of images as they lie"),
        ({"region": "roi.png"}, "align turns whole images, and region is of"),
        ({"category": ["a", "b"]}, "align turns images of one category alike"),
        ({"name": "textures", "root": None, "category": "brick"}, "align does not go with textures; set align: none"),
    ):
        with pytest.raises(ValidationError, match=problem):
            DatasetParameters(**block | more)


def test_a_set_that_cannot_be_read_says_so_before_it_is_aligned(tmp_path):
    write_all(tmp_path, *(f"good/{number}.png" for number in range(5)))
    (tmp_path / "good/0.png").write_bytes(b"no image")
    problems = open_set(tmp_path, align="rotation").problems()
    assert any("0.png: cannot be read" in problem for problem in problems)
    write_mask(tmp_path / "good/0.png")
