"""The images that an exported file is checked on, and their thresholds set with."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import decode_raw
from kdad.images.found import FoundImages
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split

#: Drawn images, where nothing else is reachable.
_DRAWN, _DRAWN_SEED = 16, 0


@dataclass(frozen=True)
class CheckedImage:
    """An image by its pixels, uint8 RGB `(H, W, 3)`; `label` None where nothing is known of it.

    `validation` ones are normal, and no detector has learnt them. A mask is bool, at the detector's size.
    """

    pixels: Callable[[], np.ndarray]
    label: int | None
    validation: bool
    mask: Callable[[], np.ndarray | None] = lambda: None


@dataclass(frozen=True)
class VerificationImages:
    """Images in order, and in words which they are."""

    images: list[CheckedImage]
    are: str

    def part(self, validation: bool) -> list[CheckedImage]:
        """Return the validation images, or the others."""
        return [image for image in self.images if image.validation == validation]

    def at_most(self, count: int) -> "VerificationImages":
        """Return so many of either part, evenly spaced."""
        kept = []
        for validation in (True, False):
            part = self.part(validation)
            rows = np.linspace(0, len(part) - 1, min(len(part), count)).astype(int)
            kept += [part[row] for row in rows]
        return replace(self, images=kept)


def of_run(images: ImageSet, split: Split) -> VerificationImages:
    """Return normal validation and test images of a run."""
    validation = set(split.rows("validation").tolist())
    found = [
        CheckedImage(
            lambda row=row: images.own_pixels(row),
            images.samples[row].label,
            row in validation,
            lambda row=row: images.mask(row) if row not in validation else None,
        )
        for row in split.scored.tolist()
    ]
    return VerificationImages(found, f"normal validation and test images of the detector's run, {images.name}")


def of_folder(found: FoundImages) -> VerificationImages:
    """Return files of a folder: those without a label are taken for normal, and normal ones for validation ones.

    Raises `InputError` for files of more than 8 bits, and for those that cannot be read, when they are asked for.
    """
    images = [
        CheckedImage(lambda path=path: _pixels_of(path), label or 0, not label)
        for path, label in zip(found.paths, found.labels, strict=True)
    ]
    return VerificationImages(images, f"of {found.place.absolute()}")


def drawn(size: tuple[int, int]) -> VerificationImages:
    """Return drawn images of several sizes: blurred noise with a spot; nothing is known of them."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(_DRAWN_SEED)
    images = []
    for number in range(_DRAWN):
        height, width = (max(round(side * (0.5 + number / 8)), 8) for side in size)
        noise = gaussian_filter(generator.normal(size=(height, width, 3)), (1 + number % 4, 1 + number % 4, 0))
        top, left = (int(generator.integers(0, max(side // 2, 1))) for side in (height, width))
        noise[top : top + height // 4, left : left + width // 4] += noise.std() * (number % 3)
        scaled = 128 + 40 * (noise - noise.mean()) / noise.std()
        pixels = np.clip(scaled, 0, 255).astype(np.uint8)
        images.append(CheckedImage(lambda pixels=pixels: pixels, None, False))
    return VerificationImages(images, "drawn ones, as those of the detector's run are not at hand")


def _pixels_of(path) -> np.ndarray:
    pixels = decode_raw(path).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"'{path}' has more than 8 bits, and exported files take 8; give export.images other images")
    return pixels
