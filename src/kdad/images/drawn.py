"""Surface defects drawn on grey textures, each with its mask; the embedded set of these; defects that train."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import scipy  # its parts are loaded when they are used
from skimage import data

from kdad.errors import InputError
from kdad.images.files.fitting import Box
from kdad.images.image_set import ImageSet, Sample, Subset, WrappedSet
from kdad.images.splits import split_set
from kdad.parameters.dataset import TEXTURES, DatasetParameters, DefectKind, DefectParameters, TextureParameters
from kdad.seeding import derive_seed, numpy_generator
from kdad.storage.content_store import content_key

_HARMONICS = 7
_TRIED_PLACES = 5


def soft_step(depth: np.ndarray, width: float) -> np.ndarray:
    """Return a smooth step of `depth` from 0 to 1 over `width`, one half at depth 0."""
    t = np.clip(depth / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def blob_distance(shape: tuple[int, int], extent: float, generator: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is outside (negative: inside) an irregular blob of about `extent` pixels across."""
    angle = generator.uniform(0, np.pi)
    stretch = generator.uniform(1.0, 1.5)
    radius = max(extent / 2, 1.5)
    y, x = np.indices(shape) - _place(shape, radius * 1.3, generator)[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    along, across = along / np.sqrt(stretch), across * np.sqrt(stretch)
    order = np.arange(2, 2 + _HARMONICS)
    height = generator.normal(0, 0.15, _HARMONICS) / (order - 1)
    phase = generator.uniform(0, 2 * np.pi, _HARMONICS)
    theta = np.arctan2(across, along)[..., None]
    outline = radius * np.clip(1 + (height * np.cos(order * theta + phase)).sum(axis=-1), 0.5, 1.5)
    ragged = scipy.ndimage.gaussian_filter(generator.standard_normal(shape), max(extent / 14, 1))
    return np.hypot(along, across) - outline + ragged * (0.06 * radius / ragged.std())


def curve_distance(shape: tuple[int, int], extent: float, generator: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is outside a gently bent line, two extents long and thinner at its ends."""
    length, width = 2 * extent, max(0.07 * extent, 1.0)
    heading = generator.uniform(0, np.pi) + np.cumsum(generator.normal(0, 0.35, 5))
    knots = np.concatenate([[[0, 0]], np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)]) * length / 5
    centre = _place(shape, length / 2, generator)
    t = np.linspace(0, 1, 256)
    points = scipy.interpolate.CubicSpline(np.linspace(0, 1, 6), knots - knots.mean(axis=0) + centre)(t)
    distance, nearest = nearest_points(shape, points)
    wave = 1 + 0.25 * np.sin(2 * np.pi * (3 * t + generator.random()))
    return distance - (np.sqrt(np.clip(4 * t * (1 - t), 0.1, 1)) * width * wave)[nearest]


def nearest_points(shape: tuple[int, int], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pixel is from the nearest of `points` `(K, 2)` (row, column), and which one that is."""
    return scipy.spatial.cKDTree(points).query(np.moveaxis(np.indices(shape), 0, -1))


def _place(shape: tuple[int, int], margin: float, generator: np.random.Generator) -> np.ndarray:
    """Return a pixel (row, column) at least `margin` from the edges, or the middle where none is."""
    sides = np.asarray(shape)
    margins = np.minimum(margin, (sides - 1) / 2)
    return np.round(generator.uniform(margins, sides - 1 - margins))


def draw_defect(
    texture: np.ndarray,
    other: np.ndarray,
    kind: DefectKind,
    parameters: DefectParameters,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect of `kind` on `texture` `(H, W)` in [0, 1]; `other`, of the same size, is what `paste` pastes.

    Returns the new image and the mask, bool `(H, W)`. A defect covers each pixel by an alpha in [0, 1] that falls from
    1 to 0 over `parameters.softness` pixels; the mask is where alpha exceeds one half, and where alpha is 0 the
    texture is unchanged. Everything random comes from `generator`.
    """
    if texture.shape != other.shape:
        raise ValueError(f"a texture of {texture.shape} and another of {other.shape} do not match")
    extent = parameters.size * min(texture.shape) * generator.uniform(0.75, 1.25)
    measure = curve_distance if kind == "scratch" else blob_distance
    best_change, best = -1.0, None
    # A blurred patch of a plain brick would be a defect that nobody can see: the most visible of some places is kept.
    for _ in range(_TRIED_PLACES):
        distance = measure(texture.shape, extent, generator)
        alpha = soft_step(-distance, parameters.softness)
        surface = _Surface(texture, other, distance, extent, parameters.strength, generator)
        change = alpha * (_PAINTERS[kind](surface) - texture)
        if np.abs(change).sum() > best_change:
            best_change, best = np.abs(change).sum(), (change, alpha)
    change, alpha = best
    return (texture + change).clip(0, 1).astype(np.float32), alpha > 0.5


@dataclass(frozen=True)
class _Surface:
    """What a defect is painted with: distances outside its outline, and its extent, in pixels."""

    texture: np.ndarray
    other: np.ndarray
    distance: np.ndarray
    extent: float
    strength: float
    generator: np.random.Generator


def _paint_scratch(surface: _Surface) -> np.ndarray:
    """Smooth a groove and lighten or darken it, with some grain of the surface left in it."""
    smooth = scipy.ndimage.gaussian_filter(surface.texture, 2)
    side = 1 if surface.generator.random() < 0.5 else -1
    return smooth + 0.4 * (surface.texture - smooth) + side * (0.08 + 0.25 * surface.strength)


def _paint_stain(surface: _Surface) -> np.ndarray:
    """Multiply by an uneven factor, which keeps the texture: a stain darkens, or bleaches."""
    cloud = scipy.ndimage.gaussian_filter(surface.generator.standard_normal(surface.texture.shape), surface.extent / 5)
    side = 1 if surface.generator.random() < 0.4 else -1
    return surface.texture * (1 + 0.55 * surface.strength * side + 0.1 * cloud / cloud.std())


def _paint_hole(surface: _Surface) -> np.ndarray:
    """Darken inwards from a chipped, lighter rim."""
    rim = max(1.5, 0.08 * surface.extent)
    inside = soft_step(-surface.distance - rim, rim)
    dark = 0.02 + 0.6 * (1 - surface.strength) * surface.texture
    light = surface.texture + 0.25 * surface.strength * (1 - surface.texture)
    return light + inside * (dark - light)


def _paint_paste(surface: _Surface) -> np.ndarray:
    """Blend in another texture that has the mean and contrast of the pixels that it covers."""
    covered = surface.distance < 0
    old, new = surface.texture[covered], surface.other[covered]
    matched = old.mean() + (surface.other - new.mean()) * (old.std() / max(new.std(), 1e-6))
    return surface.texture + (0.4 + 0.6 * surface.strength) * (matched - surface.texture)


def _paint_blur(surface: _Surface) -> np.ndarray:
    """Smear the texture, as by wear or a lens out of focus."""
    return scipy.ndimage.gaussian_filter(surface.texture, 1 + 4 * surface.strength)


_PAINTERS: dict[DefectKind, Callable[[_Surface], np.ndarray]] = {
    "scratch": _paint_scratch,
    "stain": _paint_stain,
    "hole": _paint_hole,
    "paste": _paint_paste,
    "blur": _paint_blur,
}


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
