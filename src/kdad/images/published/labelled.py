"""A labelled set as a classifier sees it: all classes, part of the training images held out."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdad.errors import InputError
from kdad.images.image_set import ImageSet
from kdad.images.published.one_class import LabelledImages, OneClassSet
from kdad.images.splits import Split, validation_count
from kdad.seeding import numpy_generator


@dataclass(frozen=True)
class ClassifiedImages:
    """Training, validation and test rows of all classes; pixels are kept as bytes at the files' own size."""

    train: LabelledImages
    test: LabelledImages
    fit_rows: np.ndarray
    validation_rows: np.ndarray
    class_names: tuple[str, ...]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.train.pixels.ndim == 3 else 3

    def labelled_rows(self, count: int | None, seed: int) -> np.ndarray:
        """Draw `count` rows of each class from the training rows, or return all of them for None.

        A larger count contains a smaller one of the same seed. Raises `InputError` when a class has fewer.
        """
        if count is None:
            return self.fit_rows
        chosen = []
        for number in range(len(self.class_names)):
            rows = self.fit_rows[self.train.classes[self.fit_rows] == number]
            if len(rows) < count:
                raise InputError(
                    f"soft_target asks for {count} labelled images of {self.class_names[number]}, but {len(rows)} are "
                    "there; lower label_counts or sweep_labels"
                )
            chosen.append(numpy_generator(seed, "labels", number).permutation(rows)[:count])
        return np.concatenate(chosen)


def classified_images(images: ImageSet, seed: int) -> ClassifiedImages:
    """Hold out a share of each class's training images; raises `InputError` for a set without classes."""
    if not isinstance(images, OneClassSet):
        raise InputError(
            f"soft_target needs a labelled set, and {images.name} has no classes; use --env=digits, mnist, "
            "fashion_mnist or cifar10"
        )
    train, test = images.parts
    validation = []
    for number in range(len(images.class_names)):
        rows = np.flatnonzero(train.classes == number)
        fraction = images.validation_fraction
        count = validation_count(len(rows), fraction) if fraction == "auto" else round(fraction * len(rows))
        if not 0 < count < len(rows):
            raise InputError(
                f"{images.name} has {len(rows)} training images of {images.class_names[number]}, of which "
                f"{images.validation_fraction} cannot be held out; change dataset.validation_fraction"
            )
        validation.append(numpy_generator(seed, "held out", number).permutation(rows)[:count])
    rows = np.sort(np.concatenate(validation))
    return ClassifiedImages(train, test, np.setdiff1d(np.arange(len(train.classes)), rows), rows, images.class_names)


def one_class_split(images: OneClassSet, classified: ClassifiedImages) -> Split:
    """Return the split of one class as normal, its training images held out as a classifier's are."""
    validation = {f"train/{row:05d}" for row in classified.validation_rows}
    table = pd.DataFrame([asdict(sample) for sample in images.samples]).rename(columns={"subset": "split"})
    table.loc[table["id"].isin(validation), "split"] = "validation"
    return Split(table.assign(fingerprint=[images.fingerprint(row) for row in range(len(table))]))


def image_batch(images: LabelledImages, rows: np.ndarray) -> Tensor:
    """Return images `(B, C, H, W)` in [0, 1]."""
    pixels = torch.from_numpy(images.pixels[rows]).float() / 255
    return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
