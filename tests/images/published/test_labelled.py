import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.images.published.labelled import classified_images, image_batch, one_class_split
from kdad.images.published.one_class import LabelledImages, OneClassSet
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

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
