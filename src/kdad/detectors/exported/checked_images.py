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

    `held_out` ones are normal, and no detector has learnt them. A mask is bool, at the detector's size.
    """

    pixels: Callable[[], np.ndarray]
    label: int | None
    held_out: bool
    mask: Callable[[], np.ndarray | None] = lambda: None


@dataclass(frozen=True)
class CheckedImages:
    """Images in order, and in words which they are."""

    images: list[CheckedImage]
    are: str

    def part(self, held_out: bool) -> list[CheckedImage]:
        """Return the held-out images, or the others."""
        return [image for image in self.images if image.held_out == held_out]

    def at_most(self, count: int) -> "CheckedImages":
        """Return so many of either part, evenly spaced."""
        kept = []
        for held_out in (True, False):
            part = self.part(held_out)
            rows = np.linspace(0, len(part) - 1, min(len(part), count)).astype(int)
            kept += [part[row] for row in rows]
        return replace(self, images=kept)


def of_run(images: ImageSet, split: Split) -> CheckedImages:
    """Return held-out normal and test images of a run."""
    held_out = set(split.rows("validation").tolist())
    found = [
        CheckedImage(
            lambda row=row: images.own_pixels(row),
            images.samples[row].label,
            row in held_out,
            lambda row=row: images.mask(row) if row not in held_out else None,
        )
        for row in split.scored.tolist()
    ]
    return CheckedImages(found, f"held-out normal and test images of the detector's run, {images.name}")


def of_folder(found: FoundImages) -> CheckedImages:
    """Return files of a folder: those without a label are taken for normal, and normal ones for held-out ones.

    Raises `InputError` for files of more than 8 bits, and for those that cannot be read, when they are asked for.
    """
    images = [
        CheckedImage(lambda path=path: _pixels_of(path), label or 0, not label)
        for path, label in zip(found.paths, found.labels, strict=True)
    ]
    return CheckedImages(images, f"of {found.place.absolute()}")


def drawn(size: tuple[int, int]) -> CheckedImages:
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
    return CheckedImages(images, "drawn ones, as those of the detector's run are not at hand")


def _pixels_of(path) -> np.ndarray:
    pixels = decode_raw(path).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"'{path}' has more than 8 bits, and exported files take 8; give export.images other images")
    return pixels
