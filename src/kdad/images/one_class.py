"""Labelled sets: one class taken as normal, all classes as a classifier sees them, and where their files lie."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import resize_image
from kdad.images.image_set import ImageSet, Sample, hash_content
from kdad.images.splits import Split, table_of, validation_count
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import numpy_generator
from kdad.storage.replacing import one_at_a_time

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

_DOWNLOAD_ROOT = Path("data/01_raw")


@dataclass(frozen=True)
class LabelledImages:
    """Images `(N, H, W)` or `(N, H, W, 3)`, uint8, with their classes `(N,)`, in a fixed order."""

    pixels: np.ndarray
    classes: np.ndarray


class OneClassSet(ImageSet):
    """The training images of the normal class, and all test images; every other class is anomalous. No masks.

    Samples are named by their place in the labelled set, which is the same whatever class is normal. `parts` are the
    labelled set's training and test part, all classes.
    """

    def __init__(
        self, parameters: DatasetParameters, train: LabelledImages, test: LabelledImages, class_names: tuple[str, ...]
    ) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        normal = self.normal_class = parameters.normal_class
        self.validation_fraction = parameters.validation_fraction
        self.class_names, self.parts = class_names, (train, test)
        self._places = [(train, int(row)) for row in np.flatnonzero(train.classes == normal)]
        self._places += [(test, row) for row in range(len(test.classes))]
        self.samples = []
        for part, row in self._places:
            number, subset = int(part.classes[row]), "train" if part is train else "test"
            kind = "good" if number == normal else class_names[number]
            self.samples.append(Sample(f"{subset}/{row:05d}", int(number != normal), kind, subset, has_mask=False))

    def at_own_size(self) -> "OneClassSet":
        """Return the same images at the size of the labelled set's files."""
        other = copy.copy(self)
        other.size = self.parts[0].pixels.shape[1:3]
        return other

    def image(self, index: int) -> np.ndarray:
        """Return the image, three equal channels, resized."""
        part, row = self._places[index]
        pixels = part.pixels[row].astype(np.float32) / np.float32(255)
        if pixels.ndim == 2:
            return np.repeat(resize_image(pixels[None], self.size), 3, axis=0)
        return resize_image(np.moveaxis(pixels, -1, 0), self.size)

    def problems(self) -> list[str]:
        """Say when no training image is of the normal class."""
        if any(sample.subset == "train" for sample in self.samples):
            return []
        return [f"no training image is of {self.category}; choose another dataset.normal_class"]


class EveryClass(OneClassSet):
    """All training and test images of the labelled set behind `one`, whatever their class."""

    def __init__(self, one: OneClassSet) -> None:
        self.name, self.category, self.size = one.name, "every_class", one.size
        self.class_names, self.parts = one.class_names, one.parts
        self._places = [(part, row) for part in self.parts for row in range(len(part.classes))]
        subsets = ["train" if part is self.parts[0] else "test" for part, _ in self._places]
        self.samples = [
            Sample(f"{subset}/{row:05d}", 0, self.class_names[part.classes[row]], subset, has_mask=False)
            for (part, row), subset in zip(self._places, subsets, strict=True)
        ]

    def digest(self) -> str:
        """Return a hash of all images and classes as they were read: that of each image after resizing takes long."""
        return hash_content(b"".join(part.pixels.tobytes() + part.classes.tobytes() for part in self.parts))

    def rows_of(self, split_table: "pd.DataFrame") -> np.ndarray:
        """Return where the images of one class's split stand here."""
        places = {sample.id: row for row, sample in enumerate(self.samples)}
        return split_table["id"].map(places).to_numpy()


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
        for number, name in enumerate(self.class_names):
            rows = self.fit_rows[self.train.classes[self.fit_rows] == number]
            if len(rows) < count:
                raise InputError(
                    f"soft_target asks for {count} labelled images of {name}, but {len(rows)} are there; lower "
                    "label_counts or sweep_labels"
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
    fraction = images.validation_fraction
    validation = []
    for number, name in enumerate(images.class_names):
        rows = np.flatnonzero(train.classes == number)
        count = validation_count(len(rows), fraction) if fraction == "auto" else round(fraction * len(rows))
        if not 0 < count < len(rows):
            raise InputError(
                f"{images.name} has {len(rows)} training images of {name}, of which {fraction} cannot be held out; "
                "change dataset.validation_fraction"
            )
        validation.append(numpy_generator(seed, "held out", number).permutation(rows)[:count])
    rows = np.sort(np.concatenate(validation))
    return ClassifiedImages(train, test, np.setdiff1d(np.arange(len(train.classes)), rows), rows, images.class_names)


def one_class_split(images: OneClassSet, classified: ClassifiedImages) -> Split:
    """Return the split of one class as normal, its training images held out as a classifier's are."""
    validation = {f"train/{row:05d}" for row in classified.validation_rows}
    parts = ["validation" if sample.id in validation else sample.subset for sample in images.samples]
    return Split(table_of(images, parts))


def image_batch(images: LabelledImages, rows: np.ndarray) -> "Tensor":
    """Return images `(B, C, H, W)` in [0, 1]."""
    import torch  # late: what an image set is, is known without

    pixels = torch.from_numpy(images.pixels[rows]).float() / 255
    return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def find_published(
    parameters: DatasetParameters, find: Callable[[Path], Path | None], downloader: Callable[..., Any], absent: str
) -> Path:
    """Return what `find` finds in ``root``, or without ``root`` in data/01_raw, downloading it there first.

    `absent` says in messages, after the folder, that it has not what `find` looks for. Raises `InputError` when it is
    not there and may not or cannot be downloaded.
    """
    root = _DOWNLOAD_ROOT if parameters.root is None else Path(parameters.root).expanduser()
    place = find(root)
    if place is not None:
        return place
    if parameters.root is not None:
        raise InputError(f"dataset.root: {root} {absent}; put the files there")
    if not parameters.download:
        raise InputError(f"{root} {absent}; set dataset.root to their folder, or dataset.download: true")
    try:
        with one_at_a_time(root / f".{parameters.name}.lock", f"'{root}' by a download"):
            if find(root) is None:  # another process has not just fetched it
                downloader(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{parameters.name} could not be downloaded ({reason}); connect to the internet, or set dataset.root to a "
            "folder with the files"
        ) from error
    place = find(root)
    if place is None:
        raise InputError(f"after the download {root} {absent}; fetch the files again")
    return place
