"""Labelled images with one class taken as normal."""

import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdad.images.files.decoding import resize_image
from kdad.images.image_set import ImageSet, Sample, hash_content
from kdad.parameters.dataset import DatasetParameters


@dataclass(frozen=True)
class LabelledImages:
    """Images `(N, H, W)` or `(N, H, W, 3)`, uint8, with their classes `(N,)`, in a fixed order."""

    pixels: np.ndarray
    classes: np.ndarray


class OneClassSet(ImageSet):
    """The training images of the normal class, and all test images; every other class is anomalous. No masks.

    Samples are named by their place in the labelled set, which is the same whatever class is normal.
    """

    def __init__(
        self, parameters: DatasetParameters, train: LabelledImages, test: LabelledImages, class_names: tuple[str, ...]
    ) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        normal = self.normal_class = parameters.normal_class
        self.validation_fraction = parameters.validation_fraction
        self.class_names = class_names
        self._parts = {"train": train, "test": test}
        self._places = [("train", int(row)) for row in np.flatnonzero(train.classes == normal)]
        self._places += [("test", row) for row in range(len(test.classes))]
        self.samples = []
        for part, row in self._places:
            found = int(self._parts[part].classes[row])
            kind = "good" if found == normal else class_names[found]
            self.samples.append(Sample(f"{part}/{row:05d}", int(found != normal), kind, part, has_mask=False))

    @property
    def parts(self) -> tuple[LabelledImages, LabelledImages]:
        """The labelled set's training and test part, all classes."""
        return self._parts["train"], self._parts["test"]

    def at_own_size(self) -> "OneClassSet":
        """Return the same images at the size of the labelled set's files."""
        other = copy.copy(self)
        other.size = self._parts["train"].pixels.shape[1:3]
        return other

    def image(self, index: int) -> np.ndarray:
        """Return the image, three equal channels, resized."""
        part, row = self._places[index]
        pixels = self._parts[part].pixels[row].astype(np.float32) / np.float32(255)
        if pixels.ndim == 2:
            return np.repeat(resize_image(pixels[None], self.size), 3, axis=0)
        return resize_image(np.moveaxis(pixels, -1, 0), self.size)

    def problems(self) -> list[str]:
        """Say when no training image is of the normal class."""
        if any(part == "train" for part, _ in self._places):
            return []
        return [f"no training image is of {self.category}; choose another dataset.normal_class"]


class EveryClass(OneClassSet):
    """All training and test images of the labelled set behind `one`, whatever their class."""

    def __init__(self, one: OneClassSet) -> None:
        self.name, self.category, self.size = one.name, "every_class", one.size
        self.class_names, self._parts = one.class_names, one._parts
        self._places = [(part, row) for part in ("train", "test") for row in range(len(one._parts[part].classes))]
        self.samples = [
            Sample(f"{part}/{row:05d}", 0, self.class_names[self._parts[part].classes[row]], part, has_mask=False)
            for part, row in self._places
        ]

    def table(self) -> pd.DataFrame:
        """Return a row an image: id, split (its part) and fingerprint."""
        rows = [(sample.id, sample.subset, self.fingerprint(row)) for row, sample in enumerate(self.samples)]
        return pd.DataFrame(rows, columns=["id", "split", "fingerprint"])

    def digest(self) -> str:
        """Return a hash of all images and classes as they were read: that of each image after resizing takes long."""
        return hash_content(b"".join(found.pixels.tobytes() + found.classes.tobytes() for found in self.parts))

    def rows_of(self, split_table: pd.DataFrame) -> np.ndarray:
        """Return where the images of one class's split stand here."""
        places = {sample.id: row for row, sample in enumerate(self.samples)}
        return split_table["id"].map(places).to_numpy()
