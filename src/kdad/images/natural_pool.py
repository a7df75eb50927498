"""The natural images that a teacher learns from, and the patches and triplets that are cut from them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.errors import InputError
from kdad.images.decoding import decode_image
from kdad.images.folder_layout import EXTENSIONS
from kdad.images.image_set import hash_content

#: Photographs in the wheels of scikit-image and scikit-learn. Its textures are left out: they are test images here.
_SCIKIT_IMAGE = (
    *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "hubble_deep_field.jpg", "ihc.png"),
    *("moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
_SCIKIT_LEARN = ("china.jpg", "flower.jpg")
_HELD = 256  # decoded images kept
#: A patch of p pixels is cut after zooming the image's shorter side to this many times p, as in the published training.
_ZOOM = (4.0, 16.0)
_GREY_SHARE = 0.1


@dataclass(frozen=True)
class Triplets:
    """Patches `(B, 3, p, p)`: anchors, the same places slightly changed, and places in other images."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


class NaturalPool:
    """Natural images from a folder (any depth), or the embedded photographs when `root` is None.

    Raises `InputError` for a folder that is missing or holds fewer than two images that are large enough to cut from.
    """

    def __init__(self, root: str | None = None) -> None:
        self.paths = _embedded() if root is None else _found(Path(root).expanduser())
        self._read = lru_cache(_HELD)(decode_image)

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times (embedded: names alone), which names trained teachers."""
        facts = [(path.name, path.stat().st_size) for path in self.paths]
        return hash_content(repr(facts).encode())

    def patches(self, count: int, patch_size: int, generator: np.random.Generator) -> Tensor:
        """Cut patches `(count, 3, p, p)` in [0, 1] at random places and scales, a tenth of them grey."""
        rows = generator.integers(len(self.paths), size=count)
        return torch.cat([self._cut(row, patch_size, generator)[0] for row in rows])

    def triplets(self, count: int, patch_size: int, generator: np.random.Generator) -> Triplets:
        """Cut `count` triplets (Bergmann et al. 2020, section 3.1).

        A positive is its anchor moved by up to (p - 1) / 4 pixels, with other luminance and Gaussian noise; a negative
        comes from another image.
        """
        rows = generator.integers(len(self.paths), size=count)
        others = (rows + generator.integers(1, len(self.paths), size=count)) % len(self.paths)
        pairs = [self._cut(row, patch_size, generator, moved=True) for row in rows]
        positives = torch.cat([positive for _, positive in pairs])
        gain, shift = (
            torch.from_numpy(generator.uniform(*limits, (count, 1, 1, 1))) for limits in ((0.8, 1.2), (-0.1, 0.1))
        )
        noise = torch.from_numpy(generator.normal(0, 0.02, tuple(positives.shape)))
        positives = (positives * gain + shift + noise).clamp(0, 1).float()
        negatives = torch.cat([self._cut(row, patch_size, generator)[0] for row in others])
        return Triplets(torch.cat([anchor for anchor, _ in pairs]), positives, negatives)

    def _cut(
        self, row: int, patch_size: int, generator: np.random.Generator, moved: bool = False
    ) -> tuple[Tensor, Tensor]:
        image = self._read(self.paths[row])
        shorter = min(image.shape[1:])
        # Zooming the whole image and cutting p pixels is cutting this many pixels and zooming those.
        side = max(round(shorter / generator.uniform(*_ZOOM)), 4)
        top, left = (int(generator.integers(0, length - side + 1)) for length in image.shape[1:])
        if generator.random() < _GREY_SHARE:
            image = np.broadcast_to(image.mean(axis=0), image.shape)
        anchor = _zoom(image, top, left, side, patch_size)
        if not moved:
            return anchor, anchor
        reach = (patch_size - 1) / 4 * side / patch_size
        places = zip((top, left), image.shape[1:], generator.uniform(-reach, reach, 2), strict=True)
        top, left = (int(np.clip(round(place + offset), 0, length - side)) for place, length, offset in places)
        return anchor, _zoom(image, top, left, side, patch_size)


def _zoom(image: np.ndarray, top: int, left: int, side: int, patch_size: int) -> Tensor:
    part = torch.from_numpy(np.ascontiguousarray(image[:, top : top + side, left : left + side]))[None]
    return interpolate(part, (patch_size, patch_size), mode="bilinear", antialias=True).clamp_(0, 1)


def _embedded() -> list[Path]:
    photographs = Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images"
    names = _SCIKIT_IMAGE, _SCIKIT_LEARN
    return [folder / name for folder, group in zip(photographs, names, strict=True) for name in group]


def _found(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(
            f"teacher.pool '{root}' is not a folder; give one with natural images, or null for the embedded"
        )
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if len(paths) < 2:
        raise InputError(f"teacher.pool '{root}' holds {len(paths)} images; at least 2 natural images are needed")
    return paths
