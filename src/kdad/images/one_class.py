"""Labelled images with one class taken as normal."""

from dataclasses import dataclass

import numpy as np

from kdad.images.decoding import resize_image
from kdad.images.image_set import ImageSet, Sample
from kdad.parameters.dataset import DatasetParameters


@dataclass(frozen=True)
class LabelledImages:
    """Grey images `(N, H, W)` uint8 with their classes `(N,)`, in a fixed order."""

    pixels: np.ndarray
    classes: np.ndarray


class OneClassSet(ImageSet):
    """The training images of the normal class, and all test images; every other class is anomalous. No masks."""

    def __init__(
        self, parameters: DatasetParameters, train: LabelledImages, test: LabelledImages, class_names: tuple[str, ...]
    ) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        normal = parameters.normal_class
        self._parts = {"train": train, "test": test}
        self._places = [("train", int(row)) for row in np.flatnonzero(train.classes == normal)]
        self._places += [("test", row) for row in range(len(test.classes))]
        self.samples = []
        for part, row in self._places:
            found = int(self._parts[part].classes[row])
            kind = "good" if found == normal else class_names[found]
            self.samples.append(Sample(f"{part}/{row:05d}", int(found != normal), kind, part, has_mask=False))

    def image(self, index: int) -> np.ndarray:
        """Return the image, three equal channels, resized."""
        part, row = self._places[index]
        grey = self._parts[part].pixels[row].astype(np.float32) / np.float32(255)
        return np.repeat(resize_image(grey[None], self.size), 3, axis=0)

    def problems(self) -> list[str]:
        """Say when no training image is of the normal class."""
        if any(part == "train" for part, _ in self._places):
            return []
        return [f"no training image is of {self.category}; choose another dataset.normal_class"]
