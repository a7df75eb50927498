"""Anomalous images among the training images: the commonest accident, made on purpose and by a known share."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.image_set import ImageSet, Subset, WrappedSet
from kdad.images.splits import split_set
from kdad.images.synthetic.defects import draw_defect
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import derive_seed, numpy_generator


class ContaminatedSet(WrappedSet):
    """Another set, a share `dataset.contamination` of whose training images is anomalous.

    ``drawn``: so many of them, in place and under their own ids, get a defect as `textures` draws it, so that splits,
    counts and test images stay what they were. ``test``: anomalous test images train, and are tested no more. Which
    ones follows from ids and ``textures.seed``; a larger share contains a smaller one. A share that is held out of the
    training images has its part in it. `seed` is the run's, by which images are held out: no defect has pixels of
    one. Raises `InputError` for a share of no image, or of more than there are.
    """

    def __init__(self, images: ImageSet, parameters: DatasetParameters, seed: int = 0) -> None:
        self._images, self._parameters, self._seed = images, parameters, parameters.textures.seed
        self.name, self.category, self.size = images.name, parameters.category_name, images.size
        # Images that move train in the set below too, which finds the range of values by those that do.
        self.samples = images.samples if parameters.contamination_by == "test" else list(images.samples)
        chosen = self._drawn() if parameters.contamination_by == "drawn" else self._moved()
        parts = split_set(self.samples, parameters, seed)
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
            self.samples[row] = replace(sample, label=1, kind=kind, has_mask=False)

    @property
    def images_file(self) -> Path | None:
        """That of the set as it was, where no image is another."""
        return None if self._defects else self._images.images_file

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

    def fingerprint(self, index: int) -> str:
        return super().fingerprint(index) if index in self._defects else self._images.fingerprint(index)

    def _drawn(self) -> list[int]:
        training = self._ordered("train", labels=(0, 1))
        return training[: self._at_least_one(self._parameters.contamination * len(training))]

    def _moved(self) -> list[int]:
        anomalous = self._ordered("test", labels=(1,))
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

    def _ordered(self, part: Subset, labels: tuple[int, ...]) -> list[int]:
        ids = {row: each.id for row, each in enumerate(self.samples) if each.subset == part and each.label in labels}
        return sorted(ids, key=lambda row: (derive_seed(self._seed, "contamination", ids[row]), ids[row]))

    def _at_least_one(self, wanted: float) -> int:
        if round(wanted) < 1:
            raise InputError(
                f"dataset.contamination is {self._parameters.contamination:g}, less than one of the training images; "
                "raise it, or set it to 0"
            )
        return round(wanted)
