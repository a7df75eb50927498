"""Anomalous images among the training images: how many, which, and that nothing else changes."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kdad.errors import InputError
from kdad.images.drawn import ContaminatedSet
from kdad.images.registry import open_image_set
from kdad.images.splits import split_samples
from kdad.parameters.dataset import DatasetParameters
from memory_images import MemoryImages
from projects import FEW


def textures(**given) -> DatasetParameters:
    return DatasetParameters(
        name="textures", category="brick", image_size=32, textures={**FEW, "train_images": 20}, **given
    )


def anomalous(images) -> list[int]:
    return [row for row, sample in enumerate(images.samples) if sample.label and sample.subset == "train"]


@pytest.mark.parametrize(("share", "count"), [(0.05, 1), (0.1, 2), (0.4, 8)])
def test_a_share_of_the_training_images_gets_a_defect_and_nothing_else_changes(share, count):
    clean, made = open_image_set(textures()), open_image_set(textures(contamination=share))
    rows = anomalous(made)
    assert len(rows) == count
    assert [sample.id for sample in made.samples] == [sample.id for sample in clean.samples]
    assert split_samples(made.samples, 0.1, 0) == split_samples(clean.samples, 0.1, 0)
    for row in range(len(clean.samples)):
        same = np.array_equal(clean.image(row), made.image(row))
        assert same == (row not in rows), row
        assert (clean.fingerprint(row) == made.fingerprint(row)) == same
    for row in rows:
        image = made.image(row)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        assert made.samples[row].kind in clean._textures.defects.kinds
        assert np.abs(image - clean.image(row)).max() > 0.02  # a defect that can be seen
        assert not made.samples[row].has_mask


def test_a_larger_share_contains_a_smaller_one_and_another_seed_draws_others():
    def rows(share, seed=0):
        return set(anomalous(ContaminatedSet(MANY, _memory(share, seed=seed))))

    assert rows(0.1) < rows(0.25) < rows(0.45)
    assert rows(0.25) != rows(0.25, seed=1)


MANY = MemoryImages(parts=["train"] * 40)


def _memory(share: float, by: str = "drawn", seed: int = 0) -> DatasetParameters:
    return DatasetParameters(
        name="folder", root="waves", image_size=32, contamination=share, contamination_by=by, textures={"seed": seed}
    )


def test_a_defect_changes_the_channels_of_a_colour_image_alike():
    images = MemoryImages(parts=["train"] * 5 + ["test"] * 10)
    images.pixels = 0.4 + 0.2 * images.pixels  # so that nothing is clipped
    made = ContaminatedSet(images, _memory(0.2))
    (row,) = anomalous(made)
    change = made.image(row) - images.image(row)
    inside = (made.image(row) > 0).all(axis=0) & (made.image(row) < 1).all(axis=0)
    np.testing.assert_allclose(change[0][inside], change[2][inside], atol=1e-6)


def test_files_of_wide_values_are_scaled_and_described_as_without_contamination(tmp_path):
    for number in range(6):
        pixels = (21000 + 100 * np.arange(32 * 32).reshape(32, 32) / 32 + number).astype(np.uint16)
        for name in (f"train/good/{number}.png", f"test/hole/{number}.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name)
    given = {"name": "folder", "root": str(tmp_path), "image_size": 32, "fit": "letterbox"}
    clean = open_image_set(DatasetParameters(**given))
    made = open_image_set(DatasetParameters(**given, contamination=0.2))
    assert clean.preparation.values.high < 30000  # not the type's, that would be lost otherwise
    assert made.preparation == clean.preparation
    (row,) = anomalous(made)
    assert made.facts(row) == clean.facts(row) is not None


def test_anomalous_test_images_train_and_are_tested_no_more():
    images = MemoryImages()  # 8 train, 6 are tested, of which 3 are anomalous
    made = ContaminatedSet(images, _memory(0.2, "test"))
    # 0.2 / 0.8 of 8: two of then ten.
    moved = anomalous(made)
    assert len(moved) == 2
    assert sum(sample.subset == "train" for sample in made.samples) == 10
    assert sum(sample.subset == "test" and sample.label == 1 for sample in made.samples) == 1
    for row in range(len(images.samples)):
        assert np.array_equal(made.image(row), images.image(row))
        assert made.fingerprint(row) == images.fingerprint(row)
        assert np.array_equal(made.mask(row), images.mask(row))


@pytest.mark.parametrize(
    ("share", "by", "message"),
    [
        (0.01, "drawn", "contamination is 0.01, less than one of the training images; raise it"),
        (0.01, "test", "less than one of the training images"),
        (0.3, "test", "contamination 0.3 of 8 training images takes 3 anomalous test images, and 3 are there"),
    ],
)
def test_a_share_that_cannot_be_had(share, by, message):
    with pytest.raises(InputError, match=message):
        ContaminatedSet(MemoryImages(), _memory(share, by))


def test_contaminated_images_are_a_category_of_their_own():
    names = [
        textures(**given).category_name
        for given in (
            {},
            {"contamination": 0.05},
            {"contamination": 0.125},
            {"contamination": 0.05, "contamination_by": "test"},
        )
    ]
    assert names == [
        *("brick", "brick_contaminated_5", "brick_contaminated_12.5", "brick_contaminated_5_by_test"),
    ]
    assert open_image_set(textures(contamination=0.05)).category == "brick_contaminated_5"


def test_classes_are_not_contaminated():
    with pytest.raises(ValidationError, match="contamination does not go with digits; set contamination: 0"):
        DatasetParameters(name="digits", normal_class=1, image_size=32, contamination=0.1)


def test_moved_images_of_wide_values_have_their_part_in_the_range(tmp_path):
    for number in range(8):
        ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
        for name, low, high in (
            ("train/good", 20_000, 21_000),
            ("test/hot", 30_000, 34_000),
        ):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((low + ramp * (high - low)).astype(np.uint16)).save(path)
    given = {"name": "folder", "root": str(tmp_path), "image_size": 32, "contamination": 0.4}
    drawn, moved = (
        open_image_set(DatasetParameters(**given, contamination_by=by)).preparation.values for by in ("drawn", "test")
    )
    assert drawn.high < 22_000
    # Five hot images train among eight; of what all use, 14,000, a quarter is added above.
    assert moved.high > 34_000


@pytest.mark.parametrize("seed", range(4))
def test_no_defect_has_pixels_of_a_held_out_image(tmp_path, seed):
    for number in range(10):
        path = tmp_path / f"train/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32), 10 * number, np.uint8)).save(path)
    defects = {"kinds": ["paste"]}
    given = DatasetParameters(
        name="folder", root=str(tmp_path), image_size=32, contamination=0.4, textures={"defects": defects},
        validation_fraction=0.4,
    )  # fmt: skip
    images = open_image_set(given, seed)
    parts = split_samples(images.samples, 0.4, seed)
    assert len(images._defects) == 3  # of the eight images that are not tested
    for row, (_, pasted) in images._defects.items():
        assert parts[pasted] == "train" and pasted != row
