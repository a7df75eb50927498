"""A set with copies of its training images: turned, mirrored or shifted, so that more poses are normal."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kdad.images.files.alignment import turn
from kdad.images.files.file_facts import FileFacts
from kdad.images.image_set import ImageSet, WrappedSet, hash_content
from kdad.images.splits import copy_name, split_set
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import numpy_generator

_SHIFT = 0.05  # of a side, at most


class AugmentedSet(WrappedSet):
    """Another set, after whose images come `augment_copies` copies of each that trains.

    What is held out has none: the threshold is of images as they come. `seed` is the run's, which decides what that is.
    """

    def __init__(self, images: ImageSet, parameters: DatasetParameters, seed: int = 0) -> None:
        self._images, self._augment, self._seed = images, parameters.augment, seed
        self.name, self.category, self.size = images.name, parameters.category_name, images.size
        training = [row for row, part in enumerate(split_set(images.samples, parameters, seed)) if part == "train"]
        #: The row of each copy's image, and the copy's number from 1 on.
        self._copies = [(row, number) for row in training for number in range(1, parameters.augment_copies + 1)]
        self.samples = images.samples + [
            replace(images.samples[row], id=copy_name(images.samples[row].id, number), has_mask=False)
            for row, number in self._copies
        ]

    def _at(self, index: int) -> tuple[ImageSet, int]:
        copied = index - len(self._images.samples)
        return self._images, index if copied < 0 else self._copies[copied][0]

    @property
    def images_file(self) -> Path | None:
        """None: copies are in no file."""
        return None

    def image(self, index: int) -> np.ndarray:
        image = super().image(index)
        copied = index - len(self._images.samples)
        if copied < 0:
            return image
        row, number = self._copies[copied]
        if self._augment == "flips":
            return np.ascontiguousarray(image[:, :: -1 if number > 1 else 1, :: -1 if number != 2 else 1])
        generator = numpy_generator(self._seed, "augment", self.samples[index].id)
        if self._augment == "rotations":
            height, width = self._images.own_size(row)  # turned as its part would be, and then stretched
            return turn(image, generator.uniform(0, 360), self.size[1] * height / (self.size[0] * width))
        most = [max(round(_SHIFT * side), 1) for side in self.size]
        top, left = (generator.integers(0, 2 * by + 1) for by in most)
        wide = np.pad(image, [(0, 0), *((by, by) for by in most)], mode="edge")
        return np.ascontiguousarray(wide[:, top : top + self.size[0], left : left + self.size[1]])

    def mask(self, index: int) -> np.ndarray | None:
        return super().mask(index) if self.samples[index].has_mask else None

    def own_mask(self, index: int) -> np.ndarray | None:
        return super().own_mask(index) if self.samples[index].has_mask else None

    def facts(self, index: int) -> FileFacts | None:
        return self._images.facts(index) if index < len(self._images.samples) else None

    def own_pixels(self, index: int) -> np.ndarray:
        return (self._images if index < len(self._images.samples) else super()).own_pixels(index)

    def fingerprint(self, index: int) -> str:
        images, row = self._at(index)
        own = images.fingerprint(row)
        made = f"{own} {self._augment} {self.samples[index].id} {self._seed}"
        return own if index == row else hash_content(made.encode())

    def remarks(self) -> list[tuple[str, str]]:
        """Say what was understood of the set, and what the copies cost."""
        megabytes = 12 * self.size[0] * self.size[1] * len(self._copies) / 1e6
        times = max((number for _, number in self._copies), default=1)
        said = (
            f"{len(self._copies)} copies ({self._augment}) of {len(self._copies) // times} training images, "
            f"{megabytes:,.0f} MB of images; training, and what frozen networks keep for it, take {times + 1} times as "
            "much"
        )
        return [*super().remarks(), ("augment", said)]
