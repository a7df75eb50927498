"""From mask files of any kind to where an image is anomalous."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from kdad.errors import InputError
from kdad.images.files.decoding import band_file, check_finite, is_wide, open_upright

Anomalous = Literal["bright", "dark"]

#: A mask with more values than this is a drawing in grey, with soft edges or the noise of JPEG; fewer are labels.
_LABELS = 16
_HALF = 128
_LOSSY = ("JPEG", "MPO")


def read_mask(path: Path, anomalous: Anomalous = "bright") -> np.ndarray:
    """Read a mask file as bool `(H, W)`, True where anomalous.

    That is where any colour is not 0; of JPEG and of drawings in grey, where one is at least 128; of an image of one
    colour, where it is not transparent. With "dark" it is everywhere else. Raises `InputError` as `decode_image` does,
    and for a JPEG whose marks are no brighter than its noise may be.
    """
    if file := band_file(path):
        pixels = file.read()
        check_finite(pixels, str(path))
        return (pixels != 0).any(axis=2) != (anomalous == "dark")
    with open_upright(path) as (image, file_format):
        marked = _marked(image, file_format in _LOSSY, path)
    return ~marked if anomalous == "dark" else marked


def read_masks(paths: Sequence[Path], anomalous: Anomalous = "bright") -> np.ndarray:
    """Read the masks of one image, `(H, W)`: anomalous is what any of them marks; raises as `read_mask` does."""
    first = read_mask(paths[0], anomalous)
    for path in paths[1:]:
        other = read_mask(path, anomalous)
        if other.shape != first.shape:
            (height, width), (first_height, first_width) = other.shape, first.shape
            raise InputError(
                f"{path}: is {height} x {width}, and {paths[0].name} of the same image {first_height} x {first_width}"
            )
        first |= other
    return first


def marks_anything(path: Path, anomalous: Anomalous = "bright") -> bool:
    """Tell whether a mask marks a pixel; a file that did not change is read once a process."""
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); let it be read") from error
    return _marks_anything(path, anomalous, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=100_000)
def _marks_anything(path: Path, anomalous: Anomalous, changed: int, size: int) -> bool:
    return bool(read_mask(path, anomalous).any())


@dataclass(frozen=True)
class MaskFacts:
    """What a mask marks: its share of the image, at the model's size, and whether it marks all four corners."""

    share: float
    resized_share: float
    corners: bool

    @property
    def looks_inverted(self) -> bool:
        """Whether it marks most of the image, up to its corners, and not all of it."""
        return self.corners and 0.5 < self.share < 1


def describe_mask(mask: np.ndarray, resized: np.ndarray) -> MaskFacts:
    """Return the facts of a mask `(H, W)`, as it is in its file and after resizing."""
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1]]
    return MaskFacts(float(mask.mean()), float(resized.mean()), bool(corners.all()))


def _marked(image: Image.Image, lossy: bool, path: Path) -> np.ndarray:
    if is_wide(image.mode):
        pixels = np.asarray(image)
        check_finite(pixels, str(path))
        return pixels != 0
    values = np.asarray(image.convert("RGB")).max(axis=2)
    if image.has_transparency_data:
        colours = np.asarray(image.convert("RGBA"))
        if (colours[..., :3] == colours[0, 0, :3]).all():
            alpha = colours[..., 3]
            # An image of one colour shows something by its transparency alone.
            return alpha >= _HALF if alpha.min() < alpha.max() else (values > 0) & (alpha > 0)
    brightest = values.max()
    if lossy and 0 < brightest < _HALF:
        raise InputError(
            f"{path}: is a JPEG whose brightest pixel is {brightest} of 255, which is no more than its noise may be; "
            "save masks as PNG, or with 255 where anomalous"
        )
    is_drawing = lossy or (brightest >= _HALF and len(np.unique(values)) > _LABELS)
    return values >= _HALF if is_drawing else values > 0
