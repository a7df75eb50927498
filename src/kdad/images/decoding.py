"""From a file to an RGB image or a mask, whatever the file's mode."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from kdad.errors import InputError

#: Pillow's decoders that a file may reach, whatever its name says: others run programs (EPS), or are made for no image.
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "TIFF", "WEBP")
_LARGEST_16_BIT = 65535
_ORIENTATION = 0x0112


def decode_image(path: Path) -> np.ndarray:
    """Decode an image file to float32 RGB `(3, H, W)` in [0, 1], turned upright as EXIF says.

    Grey becomes three equal channels, transparency is composited over white, 16 bits are divided by 65535, float
    files must lie in [0, 1], and of several frames the first is taken. Raises `InputError` naming a file that is
    missing, truncated, not an image or out of range.
    """
    with _open(path) as image:
        return _convert(image, str(path))


def convert_pillow(image: Image.Image) -> np.ndarray:
    """Convert a PIL image as `decode_image` does a file: one that was opened and not read yet may be damaged."""
    with _readable("the image"):
        return _convert(ImageOps.exif_transpose(image), "the image")


def _convert(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _wide_grey(np.asarray(image), name)
        return np.repeat(grey[None], 3, axis=0)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255)


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file, upright, from its header; raises `InputError` as `decode_image`."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            width, height = file.size
            turned = file.getexif().get(_ORIENTATION, 1) >= 5  # 5 to 8 lie on their sides
    except Exception as error:  # whatever Pillow raises for a damaged header
        raise InputError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error
    return (width, height) if turned else (height, width)


def decode_mask(path: Path) -> np.ndarray:
    """Decode a mask file to bool `(H, W)`, True where any colour is not 0 (transparency is ignored).

    Raises `InputError` as `decode_image` does.
    """
    with _open(path) as image:
        if image.mode.startswith("I") or image.mode == "F":
            return np.asarray(image) != 0
        return np.asarray(image.convert("RGB")).any(axis=2)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize `(C, H, W)` to `size` (height, width), bilinear and antialiased; the aspect ratio is not kept."""
    if image.shape[1:] == tuple(size):
        return image
    resized = interpolate(torch.from_numpy(image)[None], size=size, mode="bilinear", antialias=True)[0]
    return resized.clamp_(0, 1).numpy()


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bool `(H, W)` to `size` (height, width) by the nearest pixel."""
    if mask.shape == tuple(size):
        return mask
    return interpolate(torch.from_numpy(mask)[None, None].float(), size=size, mode="nearest-exact")[0, 0].bool().numpy()


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Give the whole image, upright; raises `InputError` as `_readable` does."""
    with _readable(str(path)):
        with Image.open(path, formats=FORMATS) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
        yield image


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn decoding errors and Pillow's warnings of damage into an `InputError` that names the image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
    except Exception as error:
        raise InputError(f"{name}: cannot be read as an image ({error}); replace or remove the file") from error


def _wide_grey(values: np.ndarray, name: str) -> np.ndarray:
    """Scale 16-bit or float grey `(H, W)` to float32 in [0, 1]."""
    wide = values.astype(np.float64)
    if values.dtype.kind != "f":
        wide /= _LARGEST_16_BIT
    if not (np.isfinite(wide).all() and wide.min() >= 0 and wide.max() <= 1):
        raise InputError(f"{name}: values are outside 0..65535 (integers) or 0..1 (floats); convert the file to 8 bits")
    return wide.astype(np.float32)
