"""Anomalous images among the training images: the commonest accident, made on purpose and by a known share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.files.file_facts import FileFacts
from kdad.images.files.preparation import Preparation
from kdad.images.image_set import ImageSet, Keep, Sample, hash_content
from kdad.images.splits import split_samples
from kdad.images.synthetic.defects import draw_defect
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import derive_seed, numpy_generator


class ContaminatedSet(ImageSet):
    """Another set, a share `dataset.contamination` of whose training images is anomalous.

    ``drawn``: so many of them, in place and under their own ids, get a defect as `textures` draws it, so that splits,
    counts and test images stay what they were. ``test``: anomalous test images train, and are tested no more. Which
    ones follows from ids and ``textures.seed``; a larger share contains a smaller one. A share that is held out of the
    training images has its part in it. `seed` is the run's, by which images are held out: no defect has pixels of
    one. Raises `InputError` for a share of no image, or of more than there are.
    """

    def __init__(self, images: ImageSet, parameters: DatasetParameters, seed: int = 0) -> None:
        self._images, self._parameters = images, parameters
        self.name, self.category, self.size = images.name, parameters.category_name, images.size
        # Images that move train in the set below too, which finds the range of values by those that do.
        self.samples = images.samples if parameters.contamination_by == "test" else list(images.samples)
        chosen = self._drawn() if parameters.contamination_by == "drawn" else self._moved()
        parts = split_samples(self.samples, parameters.validation_fraction, seed)
        #: The rows on which a defect is drawn, with its kind and the row of another training image to paste from.
        self._defects: dict[int, tuple[str, int]] = {}
        kinds = parameters.textures.defects.kinds
        for number, row in enumerate(chosen):
            sample = self.samples[row]
            if parameters.contamination_by == "test":
                self.samples[row] = replace(sample, subset="train")
                continue
            kind = kinds[number % len(kinds)]
            before = [*chosen[:number][::-1], *chosen[number + 1 :][::-1], *range(len(parts))]
            pasted = next((other for other in before if parts[other] == "train" and other != row), row)
            self._defects[row] = (kind, pasted)
            self.samples[row] = Sample(sample.id, 1, kind, "train", has_mask=False)

    @property
    def most_readers(self) -> int:
        """As many as of the set as it was."""
        return self._images.most_readers

    @property
    def images_file(self) -> Path | None:
        """That of the set as it was, where no image is another."""
        return None if self._defects else self._images.images_file

    @property
    def preparation(self) -> Preparation:
        """How files become the images of the set as it was."""
        return self._images.preparation

    def image(self, index: int) -> np.ndarray:
        """Return the image, with its defect if it has one; a defect changes all channels alike."""
        image = self._images.image(index)
        if index not in self._defects:
            return image
        kind, pasted = self._defects[index]
        grey, other = image.mean(axis=0), self._images.image(pasted).mean(axis=0)
        generator = numpy_generator(self._seed, "contamination", "defect", self.samples[index].id)
        drawn, _ = draw_defect(grey, other, kind, self._parameters.textures.defects, generator)
        return (image + (drawn - grey)).clip(0, 1).astype(np.float32)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask of the image as it was."""
        return self._images.mask(index)

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask of the image as it was, at its own resolution."""
        return self._images.own_mask(index)

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image before it is resized."""
        return self._images.own_size(index)

    def remarks(self) -> list[tuple[str, str]]:
        """Say what was understood of the set as it was."""
        return self._images.remarks()

    def problems(self, keep: Keep | None = None) -> list[str]:
        """List what is wrong with the set as it was."""
        return self._images.problems(keep)

    def facts(self, index: int) -> FileFacts | None:
        """Return what is known of the image's file, in which a drawn defect is not."""
        return self._images.facts(index)

    def fingerprint(self, index: int) -> str:
        """Return a hash of the image's content."""
        if index in self._defects:
            return hash_content(self.image(index).tobytes())
        return self._images.fingerprint(index)

    @property
    def _seed(self) -> int:
        return self._parameters.textures.seed

    def _drawn(self) -> list[int]:
        training = self._ordered(lambda sample: sample.subset == "train")
        return training[: self._at_least_one(self._parameters.contamination * len(training))]

    def _moved(self) -> list[int]:
        anomalous = self._ordered(lambda sample: sample.subset == "test" and sample.label == 1)
        training = sum(sample.subset == "train" for sample in self.samples)
        share = self._parameters.contamination
        wanted = self._at_least_one(share / (1 - share) * training)
        if wanted >= len(anomalous):
            raise InputError(
                f"dataset.contamination {share:g} of {training} training images takes {wanted} anomalous test images, "
                f"and {len(anomalous)} are there, of which one has to be left; lower it, or set "
                "dataset.contamination_by: drawn"
            )
        return anomalous[:wanted]

    def _ordered(self, belongs: Callable[[Sample], bool]) -> list[int]:
        rows = [row for row, sample in enumerate(self.samples) if belongs(sample)]
        ids = [sample.id for sample in self.samples]
        return sorted(rows, key=lambda row: (derive_seed(self._seed, "contamination", ids[row]), ids[row]))

    def _at_least_one(self, wanted: float) -> int:
        if round(wanted) < 1:
            raise InputError(
                f"dataset.contamination is {self._parameters.contamination:g}, less than one of the training images; "
                "raise it, or set it to 0"
            )
        return round(wanted)
