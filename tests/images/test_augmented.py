"""Copies of training images: how many, of which, and how they differ."""

import numpy as np
import pytest
from pydantic import ValidationError

from kdad.images.files.alignment import turn
from kdad.images.files.fitting import fit_image
from kdad.images.registry import open_image_set
from kdad.images.splits import original_name, split_set, whole_name
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import numpy_generator
from layout_trees import numbered, open_set, write, write_all


def block(**more):
    """Return the block of a small texture."""
    textures = {"train_images": 8, "validation_images": 3, "test_normal": 2, "test_per_defect": 1}
    return {"name": "textures", "category": "brick", "image_size": 32, "textures": textures} | more


def test_training_images_have_copies_and_all_others_none():
    plain = open_image_set(DatasetParameters(**block()))
    parameters = DatasetParameters(**block(augment="shifts", augment_copies=2))
    images = open_image_set(parameters)
    count = len(plain.samples)
    assert images.samples[:count] == plain.samples
    copies = images.samples[count:]
    training = [sample.id for sample in plain.samples if sample.subset == "train"]
    assert [copy.id for copy in copies] == [f"{name}#copy={number}" for name in training for number in (1, 2)]
    assert {(copy.subset, copy.label, copy.has_mask) for copy in copies} == {("train", 0, False)}
    assert original_name(copies[0].id) == whole_name(copies[0].id) == training[0]
    assert images.category == "brick_shifts_2"
    assert len({images.fingerprint(row) for row in range(len(images.samples))}) == len(images.samples)
    assert [images.fingerprint(row) for row in range(count)] == [plain.fingerprint(row) for row in range(count)]
    assert images.remarks()[-1] == (
        "augment",
        "16 copies (shifts) of 8 training images, 0 MB of images; training, and what frozen networks keep for it, take "
        "3 times as much",
    )


def test_what_is_held_out_by_the_split_has_no_copies(tmp_path):
    """The split of the set with copies is that of the set without, also by groups and for a part of the images."""
    write_all(tmp_path, *(f"train/good/f{film}_{number}.png" for film in range(6) for number in range(4)))
    write_all(tmp_path, *numbered("test/bad", 2))
    for more in ({}, {"groups": "(f[0-9])_"}, {"max_train_images": 7}):
        given = {"name": "folder", "root": str(tmp_path), "image_size": 16} | more
        wanted = DatasetParameters(**given, augment="flips")
        plain, images = open_image_set(DatasetParameters(**given), 3), open_image_set(wanted, 3)
        parts = split_set(plain.samples, wanted, 3)
        count = len(plain.samples)
        again = split_set(images.samples, wanted, 3)
        assert again[:count] == parts
        assert again[count:] == ["train"] * 3 * parts.count("train")


def test_copies_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        write(tmp_path / f"good/{number}.png", rng.integers(0, 255, (20, 20)), (20, 20))
    images = open_set(tmp_path, image_size=20, augment="flips")
    count = sum("#copy=" not in sample.id for sample in images.samples)
    first = [sample.id for sample in images.samples].index(original_name(images.samples[count].id))
    whole = images.image(first)
    for copy, expected in enumerate((whole[:, :, ::-1], whole[:, ::-1], whole[:, ::-1, ::-1]), count):
        np.testing.assert_array_equal(images.image(copy), expected)
    shifted = open_set(tmp_path, image_size=20, augment="shifts", augment_copies=8)
    offsets = {_offset(whole, shifted.image(row)) for row in range(count, count + 8)}
    # 5 % of 20 pixels is one.
    assert offsets <= {(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)}
    assert len(offsets) > 3
    turned = open_set(tmp_path, image_size=20, augment="rotations")
    assert len({turned.image(row).tobytes() for row in range(count, count + 3)}) == 3
    again = open_set(tmp_path, image_size=20, augment="rotations")
    np.testing.assert_array_equal(turned.image(count), again.image(count))
    assert turned.facts(count) is None
    assert turned.facts(first) is not None


def test_copies_of_stretched_images_are_as_turned_parts_would_be(tmp_path):
    """A part of 40 x 80 pixels, turned before it is resized to 40 x 40; corners aside, which come from outside."""
    down, across = np.mgrid[-20:20, -40:40] + 0.5
    part = 120 + 60 * np.sin(across / 6) + 40 * np.cos(down / 5)
    whole = np.repeat(np.floor(part)[None] / 255, 3, axis=0).astype(np.float32)
    inside = np.hypot(down[:, 20:60], across[:, 20:60]) < 8
    for number in range(3):
        write(tmp_path / f"good/{number}.png", part.astype(np.uint8), (40, 80))
    for fit in ("resize", "letterbox", "centre_crop"):
        images = open_set(tmp_path, image_size=40, augment="rotations", augment_copies=1, fit=fit)
        copy = len(images.samples) - 1
        angle = numpy_generator(0, "augment", images.samples[copy].id).uniform(0, 360)
        expected = fit_image(turn(whole, angle), (40, 40), fit)
        assert np.abs(images.image(copy) - expected)[:, inside].mean() < 0.02, fit


def _offset(whole, shifted):
    return next(
        (down, across)
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
        if np.array_equal(np.roll(whole, (down, across), (1, 2))[:, 1:-1, 1:-1], shifted[:, 1:-1, 1:-1])
    )


def test_wishes_that_cannot_be():
    with pytest.raises(ValidationError, match="an image has 3 flips, and augment_copies is 4; give 3 at most"):
        DatasetParameters(**block(augment="flips", augment_copies=4))
    with pytest.raises(ValidationError, match="augment does not go with digits"):
        DatasetParameters(name="digits", normal_class=1, image_size=32, augment="flips")
