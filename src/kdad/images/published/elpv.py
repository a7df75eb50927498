"""Solar cells by electroluminescence, from the package elpv-dataset (Buerhop-Lutz et al. 2018)."""

from functools import cache

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import resize_image
from kdad.images.image_set import ImageSet, Sample, Subset
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import derive_seed


class ElpvSet(ImageSet):
    """Cells of one type or both: normal and anomalous by their probability of a defect, others left out. No masks.

    Which normal cells are tested follows from their numbers alone. Raises `InputError` when the package is missing.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        settings = parameters.elpv
        self._pixels, probabilities, types = _load_cells()
        chosen = np.ones(len(types), dtype=bool) if parameters.category is None else types == parameters.category
        normal = chosen & (probabilities <= settings.normal_up_to)
        anomalous = chosen & (probabilities >= settings.anomalous_from)
        self._left_out = int((chosen & ~normal & ~anomalous).sum())
        numbers = np.flatnonzero(normal)
        ranked = sorted(numbers, key=lambda number: derive_seed(0, "elpv", int(number)))
        tested = set(ranked[: round(settings.test_fraction * len(numbers))])
        parts: dict[Subset, list[int]] = {
            "train": [number for number in numbers if number not in tested],
            "test": [*sorted(tested), *np.flatnonzero(anomalous)],
        }
        self._numbers = [int(number) for rows in parts.values() for number in rows]
        self.samples = []
        for part, number in ((part, number) for part, rows in parts.items() for number in rows):
            kind = f"probability_{probabilities[number]:.2f}" if anomalous[number] else "good"
            self.samples.append(Sample(f"{types[number]}/{number:04d}", int(anomalous[number]), kind, part, False))

    def image(self, index: int) -> np.ndarray:
        """Return the cell, three equal channels, resized."""
        grey = self._pixels[self._numbers[index]].astype(np.float32) / np.float32(255)
        return np.repeat(resize_image(grey[None], self.size), 3, axis=0)

    def remarks(self) -> list[tuple[str, str]]:
        """Say how many cells are left out."""
        return [("not used", f"{self._left_out} cells that are neither normal nor anomalous by dataset.elpv")]


@cache
def _load_cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all cells `(N, H, W)` uint8, their probabilities of a defect and their types, once a process."""
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError as error:
        raise InputError(
            "dataset.name elpv needs the package elpv-dataset, which is not installed; run: pip install elpv-dataset"
        ) from error
    pixels, probabilities, types = load_dataset()
    return np.asarray(pixels), np.asarray(probabilities, dtype=float), np.asarray(types)
