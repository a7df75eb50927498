"""Small image sets in memory, with their splits."""

import numpy as np
import pandas as pd

from kdad.images.image_set import ImageSet, Sample
from kdad.images.one_class import LabelledImages, OneClassSet
from kdad.images.splits import Split
from kdad.parameters.dataset import DatasetParameters

#: Which part each image is of: 8 train, 4 are held out, 6 are tested, in no order.
PARTS = ["test", "train", "train", "validation", "train", "test", "test", "train", "validation"] * 2
#: Test images with a defect.
ANOMALOUS = (5, 9, 15)


class MemoryImages(ImageSet):
    """Noisy waves; the anomalous ones have a bright or dark rectangle, and a mask of it."""

    name, category = "memory", "waves"

    def __init__(self, size: tuple[int, int] = (32, 48), seed: int = 0, parts: list[str] = PARTS) -> None:
        self.size = size
        self.samples = [
            Sample(f"image{row:02d}", int(defect), "patch" if defect else "good", part, has_mask=defect)
            for row, part in enumerate(parts)
            for defect in [row in ANOMALOUS]
        ]
        generator = np.random.default_rng(seed)
        shifts = generator.uniform(0, 2 * np.pi, (len(parts), 3, 1, 1))
        waves = 0.5 + 0.25 * np.sin(np.arange(size[1]) / 3 + np.arange(size[0])[:, None] / 5 + shifts)
        pixels = waves + generator.normal(0, 0.05, (len(parts), 3, *size))
        self.pixels = pixels.clip(0, 1).astype(np.float32)
        for row in set(ANOMALOUS) & set(range(len(parts))):
            self.pixels[row][:, self._defect(row)] = row % 2

    def image(self, index: int) -> np.ndarray:
        """Return the image."""
        return self.pixels[index]

    def mask(self, index: int) -> np.ndarray:
        """Return where the rectangle is; nowhere in a normal image."""
        return self._defect(index) if index in ANOMALOUS else np.zeros(self.size, dtype=bool)

    def _defect(self, row: int) -> np.ndarray:
        found = np.zeros(self.size, dtype=bool)
        found[row : row + 8, row + 2 : row + 14] = True
        return found


def split_of(images: ImageSet) -> Split:
    """Return the split that the samples say, as ingestion hands it on."""
    rows = [
        (sample.id, sample.label, sample.kind, sample.subset, sample.has_mask, images.fingerprint(index))
        for index, sample in enumerate(images.samples)
    ]
    return Split(pd.DataFrame(rows, columns=["id", "label", "kind", "split", "has_mask", "fingerprint"]))


def labelled_bars(channels: int = 1, normal: int = 1) -> OneClassSet:
    """Return 48 training and 18 test images of 12 x 10 pixels: a noisy bar, each of three classes at another place."""
    generator = np.random.default_rng(0)

    def part(count: int) -> LabelledImages:
        classes = np.arange(count) % 3
        pixels = generator.integers(0, 120, (count, 12, 10, channels), dtype=np.uint8)
        for row, number in enumerate(classes):
            pixels[row, 3 * number : 3 * number + 3] += 120
        return LabelledImages(pixels[..., 0] if channels == 1 else pixels, classes)

    parameters = DatasetParameters(name="digits", normal_class=normal, image_size=32, validation_fraction=0.25)
    return OneClassSet(parameters, part(48), part(18), ("low", "middle", "high"))
