"""Files of arrays: ``.npy``, and TIFF with more bands than a picture has."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdad.errors import InputError

_TIFF = (".tif", ".tiff")
_ALPHA = (1, 2)  # of TIFF's extra samples; 0 says nothing


@dataclass(frozen=True)
class BandFile:
    """A file whose values are an array `(H, W)` or `(H, W, B)`, known before it is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    pages: int = 1

    @property
    def bands(self) -> int:
        """How many bands it has."""
        return 1 if len(self.shape) == 2 else self.shape[2]

    @property
    def mode(self) -> str:
        """Its kind, as a mode of Pillow is one."""
        return f"{self.bands} x {self.dtype}"

    def read(self) -> np.ndarray:
        """Return the values `(H, W, B)`, of types that images have."""
        if self.path.suffix.lower() in _TIFF:
            import tifffile  # late: it comes with scikit-image, and few files need it

            with tifffile.TiffFile(self.path) as file:
                page = file.pages[0]
                values = page.asarray()
                values = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
        else:
            values = np.load(self.path, allow_pickle=False)
        if values.dtype == bool:
            values = values * np.uint8(255)
        elif values.dtype.kind == "f":
            values = values.astype(np.float32)
        elif values.dtype == np.int8:
            values = values.astype(np.int16)
        return values.reshape(*self.shape[:2], self.bands)


def open_bands(path: Path) -> BandFile | None:
    """Return a file of bands, None for pictures.

    Raises `InputError` for an array that is no image, and what `numpy` and `tifffile` do for damaged files.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "buif":
            raise InputError(
                f"{path}: holds an array of shape {array.shape} and type {array.dtype}, which is no image; save "
                "numbers as (height, width) or (height, width, bands)"
            )
        return BandFile(path, array.shape, array.dtype)
    if ending not in _TIFF:
        return None
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            extra = [int(sample) for sample in page.extrasamples]
            height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
            if count < 2 or not extra or (extra[-1] in _ALPHA and count in (2, 4)):
                return None
            return BandFile(path, (height, width, count), np.dtype(page.dtype), len(file.pages))
    except tifffile.TiffFileError:  # another format with this ending, or damage that Pillow names
        return None


def choose_bands(pixels: np.ndarray, bands: tuple[int, ...] | None, name: str) -> np.ndarray:
    """Return the chosen bands of `(H, W, B)`: `(H, W)` of one, `(H, W, 3)` of three.

    Raises `InputError` for bands that are not there, and where none are chosen of a number that is neither 1 nor 3.
    """
    count = pixels.shape[2]
    if bands is None and count not in (1, 3):
        example = "[0, 1, 2]" if count > 3 else "[0]"
        raise InputError(
            f"{name}: has {count} bands; say which one or three are taken, counted from 0, such as "
            f"dataset.bands={example}"
        )
    if bands is not None and max(bands) >= count:
        raise InputError(f"{name}: has {count} bands, and dataset.bands asks for number {max(bands)}, counted from 0")
    chosen = pixels if bands is None else pixels[..., list(bands)]
    return chosen[..., 0] if chosen.shape[2] == 1 else np.ascontiguousarray(chosen)
