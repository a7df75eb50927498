"""The embedded image set: crops of a photographed surface, with drawn defects in the test part."""

from functools import cache, lru_cache

import numpy as np
from skimage import data

from kdad.errors import InputError
from kdad.images.files.fitting import Box
from kdad.images.image_set import ImageSet, Sample, Subset
from kdad.images.synthetic.defects import draw_defect
from kdad.parameters.dataset import TEXTURES, DatasetParameters, DefectKind, TextureParameters
from kdad.seeding import numpy_generator
from kdad.storage.content_store import content_key

#: Of the photographs' 512 x 512 pixels. No pixel is in two regions, so no training crop shares one with a test crop.
REGIONS: dict[Subset, Box] = {
    "train": Box(0, 0, 512, 304),
    "validation": Box(0, 304, 192, 208),
    "test": Box(192, 304, 320, 208),
}


class TextureSet(ImageSet):
    """Normal crops for training, validation and test, then defective test crops, kind by kind.

    Crops are `dataset.image_size` large and differ within a subset; everything follows from ``textures.seed``. The
    photographs (brick, grass, gravel; CC0) are part of scikit-image. Raises `InputError` for crops larger than a
    region, or more crops than fit.
    """

    is_slow = True

    def __init__(self, parameters: DatasetParameters) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category, parameters.size
        self._textures = parameters.textures
        self._drawn = lru_cache(maxsize=1)(self._draw)  # an image and its mask are asked for one after the other
        self.samples: list[Sample] = []
        #: The crop behind each sample, and the defect drawn on it, if any.
        self._crops: list[tuple[Box, DefectKind | None]] = []
        for subset, defects in _plan(self._textures).items():
            places = _place_crops(REGIONS[subset], self.size, len(defects), self._generator("crops", subset), subset)
            for number, ((top, left), defect) in enumerate(zip(places, defects, strict=True)):
                kind = defect or "good"
                sample_id = f"{subset}/{kind}/{number:03d}"
                self.samples.append(Sample(sample_id, int(defect is not None), kind, subset, defect is not None))
                self._crops.append((Box(top, left, *self.size), defect))

    def image(self, index: int) -> np.ndarray:
        """Return the crop, with its defect if it has one, as three equal channels."""
        return np.repeat(self._drawn(index)[0][None], 3, axis=0)

    def mask(self, index: int) -> np.ndarray | None:
        """Return where the defect is (`draw_defect`), None for a normal crop."""
        return self._drawn(index)[1]

    def content(self) -> str:
        """Return a hash of the settings."""
        return content_key(category=self.category, textures=self._textures.model_dump(mode="json"))

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        box, defect = self._crops[index]
        texture = box.cut(_load_photograph(self.category))
        if defect is None:
            return texture, None
        generator = self._generator("defect", self.samples[index].id)
        foreign = generator.choice([name for name in TEXTURES if name != self.category])
        return draw_defect(texture, box.cut(_load_photograph(foreign)), defect, self._textures.defects, generator)

    def _generator(self, *names: str) -> np.random.Generator:
        return numpy_generator(self._textures.seed, "textures", self.category, *names)


def _plan(textures: TextureParameters) -> dict[Subset, list[DefectKind | None]]:
    """List the defect, or None, of every crop by subset."""
    defects = [kind for kind in textures.defects.kinds for _ in range(textures.test_per_defect)]
    return {
        "train": [None] * textures.train_images,
        "validation": [None] * textures.validation_images,
        "test": [None] * textures.test_normal + defects,
    }


def _place_crops(
    region: Box, size: tuple[int, int], count: int, generator: np.random.Generator, subset: Subset
) -> list[tuple[int, int]]:
    """Choose `count` different places (top, left) of crops inside `region`."""
    rows, columns = region.height - size[0] + 1, region.width - size[1] + 1
    if rows < 1 or columns < 1:
        height, width = (min(getattr(each, side) for each in REGIONS.values()) for side in ("height", "width"))
        raise InputError(
            f"dataset.image_size {size[0]} x {size[1]} is too large for textures; at most {height} x {width}"
        )
    if count > rows * columns:
        raise InputError(
            f"dataset.textures asks for {count} {subset} images, but only {rows * columns} crops of "
            f"{size[0]} x {size[1]} fit in that part of the photograph; lower the count or dataset.image_size"
        )
    chosen = generator.choice(rows * columns, count, replace=False)
    return [(region.top + int(place) // columns, region.left + int(place) % columns) for place in chosen]


@cache
def _load_photograph(name: str) -> np.ndarray:
    """Read a photograph, float32 `(512, 512)` in [0, 1]; it comes with scikit-image, without a download."""
    return np.asarray(getattr(data, name)(), dtype=np.float32) / np.float32(255)
