"""The embedded set: disjoint regions, determinism, and that pixel statistics do not solve it."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kdad.errors import InputError
from kdad.images import drawn as drawn_images
from kdad.images.drawn import REGIONS, TextureSet
from kdad.parameters.dataset import TEXTURES, DatasetParameters

#: The others take their turn in `make test-long`.
BRICK_AND_LONG = [name if name == "brick" else pytest.param(name, marks=pytest.mark.long) for name in TEXTURES]


def open_textures(category: str = "brick", image_size: int | list[int] = 128, **settings) -> TextureSet:
    return TextureSet(DatasetParameters(name="textures", category=category, image_size=image_size, textures=settings))


def rows(images: TextureSet, subset: str) -> list[int]:
    return [row for row, sample in enumerate(images.samples) if sample.subset == subset]


def test_default_counts():
    images = open_textures()
    counts = Counter((sample.subset, sample.kind, sample.label, sample.has_mask) for sample in images.samples)
    defects = {("test", kind, 1, True): 12 for kind in ("scratch", "stain", "hole", "paste", "blur")}
    normal = {("train", "good", 0, False): 120, ("validation", "good", 0, False): 30, ("test", "good", 0, False): 30}
    assert counts == normal | defects
    assert len({sample.id for sample in images.samples}) == len(images.samples)
    assert all(sample.has_mask for sample in images.samples if sample.label)
    assert images.problems() == []


@pytest.mark.parametrize("size", [32, 128, [64, 160]])
def test_no_pixel_is_shared_between_train_validation_and_test(monkeypatch, size):
    # Each pixel of the photograph is replaced by its own number, which float32 holds exactly.
    numbered = np.arange(512 * 512, dtype=np.float32).reshape(512, 512)
    monkeypatch.setattr(drawn_images, "_load_photograph", lambda name: numbered)
    monkeypatch.setattr(drawn_images, "draw_defect", lambda texture, *_: (texture, np.ones(texture.shape, bool)))
    images = open_textures(image_size=size)
    seen = {
        subset: set(np.concatenate([images.image(row)[0].ravel() for row in rows(images, subset)]).tolist())
        for subset in ("train", "validation", "test")
    }
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_train_region_is_the_largest():
    areas = {name: r.height * r.width for name, r in REGIONS.items()}
    assert areas["train"] > areas["test"] > areas["validation"]
    assert sum(areas.values()) == 512 * 512


def test_images_are_grey_floats_and_masks_fit():
    images = open_textures("gravel", [48, 96])
    for row in (0, len(images.samples) - 1):
        image = images.image(row)
        assert image.shape == (3, 48, 96)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
        assert (image == image[0]).all()
    assert images.mask(0) is None
    assert images.mask(len(images.samples) - 1).shape == (48, 96)


def test_a_sample_is_the_same_whenever_it_is_drawn():
    first, second = open_textures(image_size=64), open_textures(image_size=64)
    last = len(first.samples) - 1
    for row in (last, 0, 200, last):
        np.testing.assert_array_equal(first.image(row), second.image(row))
    np.testing.assert_array_equal(first.mask(last), second.mask(last))
    other = open_textures(image_size=64, seed=1)
    assert first.fingerprint(last) != other.fingerprint(last)
    assert first.fingerprint(0) != other.fingerprint(0)


def test_fewer_defect_kinds_leave_normal_crops_alone():
    few = open_textures(image_size=64, defects={"kinds": ["hole"]}, test_per_defect=2)
    assert [few.samples[row].kind for row in rows(few, "test")][-2:] == ["hole", "hole"]
    assert few.fingerprint(0) == open_textures(image_size=64).fingerprint(0)


@pytest.mark.parametrize("category", BRICK_AND_LONG)
def test_a_gaussian_at_each_pixel_does_not_find_the_defects(category):
    images = open_textures(category)
    train = np.stack([images.image(row)[0] for row in rows(images, "train")])
    test = np.stack([images.image(row)[0] for row in rows(images, "test")])
    labels = [images.samples[row].label for row in rows(images, "test")]
    z = np.abs(test - train.mean(axis=0)) / train.std(axis=0)
    assert roc_auc_score(labels, z.max(axis=(1, 2))) < 0.75
    assert roc_auc_score(labels, z.mean(axis=(1, 2))) < 0.75


@pytest.mark.parametrize("category", BRICK_AND_LONG)
def test_defects_change_what_they_cover(monkeypatch, category):
    images = open_textures(category)
    drawn = {row: (images.image(row)[0], images.mask(row)) for row in rows(images, "test") if images.samples[row].label}
    monkeypatch.setattr(drawn_images, "draw_defect", lambda texture, *_: (texture, None))
    for row, (image, mask) in drawn.items():
        change = np.abs(image - images.image(row)[0])
        assert change[mask].mean() > 0.02, images.samples[row].id
        assert change[mask].mean() > 10 * change[~mask].mean(), images.samples[row].id
        assert 0.002 < mask.mean() < 0.15, images.samples[row].id


@pytest.mark.parametrize("size", [193, [64, 209], 600])
def test_crops_larger_than_a_region(size):
    with pytest.raises(InputError, match=r"dataset\.image_size .* too large for textures; at most 192 x 208"):
        open_textures(image_size=size)


def test_more_crops_than_fit():
    # 192 - 190 + 1 = 3 rows and 208 - 190 + 1 = 19 columns of the validation region hold 57 crops
    images = open_textures(image_size=190, validation_images=57)
    assert len({images.fingerprint(row) for row in rows(images, "validation")}) == 57
    with pytest.raises(InputError, match="asks for 58 validation images, but only 57 crops of 190 x 190"):
        open_textures(image_size=190, validation_images=58)
