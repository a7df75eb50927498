"""From a file of any kind, a PIL image or an array to an RGB image; which files are images; files read in threads."""

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from kdad.errors import InputError
from kdad.images.files.value_range import EIGHT_BITS, TYPE_LIMITS, ValueRange, kind_of

_TIFF = (".tif", ".tiff")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # where a PNG says how it lies
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


_inside = 0
_lock = threading.Lock()
_kept = ExitStack()


@contextmanager
def silenced_warnings() -> Iterator[None]:
    """Ignore warnings while any thread is in such a block.

    The first in keeps the filters and the last out puts them back: `warnings.catch_warnings` of two threads that
    overlap would put back each other's, and leave warnings ignored for good.
    """
    global _inside
    with _lock:
        if not _inside:
            _kept.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _kept.close()


#: Pillow's decoders that a file may reach, whatever its name says: others run programs (EPS), or are made for no image.
#: That of JPEG reads MPO too.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class RawImage:
    """The values of a file of some `mode` of Pillow: bytes `(H, W, 3)`, or of wider types grey `(H, W)`.

    Files of bands have `(H, W, 3)` of any type. `clear` says that the file has an alpha of 0 everywhere.
    """

    pixels: np.ndarray
    mode: str
    clear: bool = False

    def range_of(self, values: ValueRange | None, name: str) -> ValueRange:
        """Return `values`, or for None the limits of the type.

        Raises `InputError` for values of another kind than the range's, and without one for values beyond the limits.
        """
        kind = kind_of(self.pixels)
        if values is None:
            return EIGHT_BITS if kind == "8-bit" else _limits_of_type(self.pixels, name)
        if values.kind != kind:
            raise InputError(
                f"{name}: holds {kind} values (mode {self.mode}) where training images hold {values.kind} ones, which "
                "are no measure for them; convert it, or train with dataset.value_range=type, which scales each file "
                "by its type's limits"
            )
        return values

    def scaled(self, values: ValueRange | None, name: str) -> np.ndarray:
        """Return float32 RGB `(3, H, W)` in [0, 1] by a range, or by the limits of the type; raises as `range_of`."""
        chosen = self.range_of(values, name)
        if chosen == EIGHT_BITS:
            planes = np.ascontiguousarray(self.pixels.transpose(2, 0, 1), dtype=np.float32)
            planes /= np.float32(255)
            return planes
        scaled = chosen.scale(self.pixels)
        if scaled.ndim == 2:
            return np.repeat(scaled[None], 3, axis=0)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def decode_image(path: Path, values: ValueRange | None = None, bands: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode an image file to float32 RGB `(3, H, W)` in [0, 1], turned upright as EXIF says.

    Grey becomes three equal channels. Transparency is composited over white, but an alpha of 0 everywhere is left out.
    Of several frames the first is taken, of more bands than three those of `bands`. `values` become 0 and 1; without
    them 16 bits are divided by 65535, and floats must lie in [0, 1]. Raises `InputError` naming a file that is missing,
    truncated, not an image, not a number somewhere, or out of range.
    """
    return decode_raw(path, bands).scaled(values, str(path))


def decode_raw(path: Path, bands: tuple[int, ...] | None = None) -> RawImage:
    """Decode an image file to its own values, turned upright; raises `InputError` as `decode_image` does."""
    if file := band_file(path):
        with _readable(str(path)):
            raw = RawImage(file.read(), file.mode)
    else:
        with open_upright(path) as (image, _):
            raw = _raw(image, str(path))
        if bands is None:
            return raw
    pixels = choose_bands(np.atleast_3d(raw.pixels), bands, str(path))
    check_finite(pixels, str(path))
    if pixels.ndim == 2 and kind_of(pixels) == "8-bit":
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return RawImage(pixels, raw.mode, raw.clear)


def band_file(path: Path) -> BandFile | None:
    """Return a file of bands, None for a picture; raises `InputError` as `decode_image` does."""
    with _readable(str(path)):
        file = open_bands(path)
        if file is not None and file.shape[0] * file.shape[1] > 2 * Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        return file


def convert_pillow(image: Image.Image, values: ValueRange | None = None) -> np.ndarray:
    """Convert a PIL image as `decode_image` does a file: one that was opened and not read yet may be damaged."""
    with _readable("the image"):
        return _raw(ImageOps.exif_transpose(image), "the image").scaled(values, "the image")


def is_wide(mode: str) -> bool:
    """Tell whether images of a mode of Pillow have more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def _raw(image: Image.Image, name: str) -> RawImage:
    mode = image.mode
    if is_wide(mode):
        pixels = np.asarray(image)
        check_finite(pixels, name)
        return RawImage(pixels, mode)
    clear = False
    if image.has_transparency_data:
        image = image.convert("RGBA")
        clear = image.getextrema()[3] == (0, 0)  # cameras and programs that leave the fourth byte empty
        if not clear:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return RawImage(np.asarray(image.convert("RGB")), mode, clear)


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file, upright, from its header; raises `InputError` as `decode_image`."""
    if bands := band_file(path):
        return bands.shape[0], bands.shape[1]
    with open_header(path) as file:
        width, height = file.size
        # Pillow decodes a PNG to see what follows its pixels.
        silent = file.format == "PNG" and "exif" not in file.info and not _has_texts(path)
        turned = not silent and file.getexif().get(_ORIENTATION, 1) >= 5  # 5 to 8 lie on their sides
    return (width, height) if turned else (height, width)


def _has_texts(path: Path) -> bool:
    """Return whether a PNG file has texts or EXIF anywhere, by the kinds of its chunks: no pixel is decoded."""
    with path.open("rb") as file:
        file.seek(len(_PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            if head[4:] in _PNG_TEXTS:
                return True
            file.seek(int.from_bytes(head[:4]) + 4, 1)  # its content, and its checksum
    return False


def known_size(path: Path) -> tuple[int, int] | None:
    """Return height and width by the file's header; None where it cannot be read, which who reads it says."""
    try:
        return read_size(path)
    except InputError:
        return None


@contextmanager
def open_header(path: Path) -> Iterator[Image.Image]:
    """Give an image that is not decoded yet; what is wrong with its header raises `InputError` as `decode_image`."""
    with _readable(str(path)), Image.open(path, formats=FORMATS) as file:
        yield file


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize `(C, H, W)` to `size` (height, width), bilinear and antialiased; the aspect ratio is not kept."""
    if image.shape[1:] == tuple(size):
        return image
    import torch  # late: what an image set is, is known without

    values = torch.from_numpy(image)[None]
    resized = torch.nn.functional.interpolate(values, size=size, mode="bilinear", antialias=True)[0]
    return resized.clamp_(0, 1).numpy()


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bool `(H, W)` to `size` (height, width) by the nearest pixel."""
    if mask.shape == tuple(size):
        return mask
    import torch

    values = torch.from_numpy(mask)[None, None].float()
    return torch.nn.functional.interpolate(values, size=size, mode="nearest-exact")[0, 0].bool().numpy()


@contextmanager
def open_upright(path: Path) -> Iterator[tuple[Image.Image, str | None]]:
    """Give the whole image, upright, and its file's format; raises `InputError` for a file that cannot be read."""
    with open_header(path) as file:
        file.load()
        yield ImageOps.exif_transpose(file), file.format


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn decoding errors and Pillow's warnings of damage into an `InputError` that names the image."""
    try:
        with silenced_warnings():
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS / 1e6  # where Pillow stops
        raise InputError(
            f"{name}: has more than the {most:.0f} million pixels that are decoded at once; make it smaller, or cut it "
            "up"
        ) from error
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
    except Exception as error:
        raise InputError(f"{name}: cannot be read as an image ({error}); replace or remove the file") from error


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise `InputError` for values `(H, W)` that are not a number or infinite, saying how many and where."""
    if values.dtype.kind != "f":
        return
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0][:2]
        raise InputError(
            f"{name}: {wrong.sum()} of its {wrong.size} pixels are NaN or infinite, the first at row {row}, column "
            f"{column}; repair or remove the file"
        )


def _limits_of_type(values: np.ndarray, name: str) -> ValueRange:
    kind = kind_of(values)
    low, high = TYPE_LIMITS[kind]
    if values.min() < low or values.max() > high:
        raise InputError(
            f"{name}: values are outside {low}..{high}: they lie in {values.min():g}..{values.max():g}; give "
            "dataset.value_range as data or [low, high], or convert the file"
        )
    return ValueRange(kind=kind, low=low, high=high)


EXTENSIONS = frozenset(
    f".{ending}"
    for ending in (
        *("png", "jpg", "jpeg", "jfif", "jpe", "bmp", "tif", "tiff", "webp", "gif", "jp2", "j2k", "jpx", "avif"),
        *("pgm", "ppm", "npy"),
    )
)
_OF_SYSTEMS = ("@eadir", "#recycle", "__macosx", "$recycle.bin")
EXTENSION_NAMES = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
AnyImage = str | Path | Image.Image | np.ndarray
Item = TypeVar("Item")
Result = TypeVar("Result")


def is_image(path: PurePath) -> bool:
    """Tell whether a file of this name is an image, by its ending in any case; hidden ones are none."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is hidden, or a system's own: a disk's thumbnails, its bin."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def read_image(image: AnyImage, values: ValueRange | None = None, bands: tuple[int, ...] | None = None) -> np.ndarray:
    """Return float32 RGB `(3, H, W)` in [0, 1] of a path, a PIL image or an array.

    `values` become 0 and 1, and `bands` of files are taken, as in `decode_image`. Arrays are `(H, W)` or `(H, W, 3)`,
    of the kind of `values`, uint8, or float in [0, 1], which is taken as it is. Raises `InputError` for anything else,
    and for files as `decode_image` does.
    """
    if isinstance(image, str | Path):
        return decode_image(Path(image).expanduser(), values, bands)
    if isinstance(image, Image.Image):
        return convert_pillow(image, values)
    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)) or 0 in array.shape:
        raise InputError(f"an array of shape {array.shape} is no image; give (H, W) or (H, W, 3)")
    if values not in (None, EIGHT_BITS) and array.dtype.kind in "uif" and kind_of(array) == values.kind:
        if not np.isfinite(array).all():
            raise InputError("an array of an image has values that are NaN or infinite; repair it")
        array = values.scale(array)
    elif array.dtype == np.uint8 and (values is None or values.kind == "8-bit"):
        array = array.astype(np.float32) / np.float32(255)
    elif array.dtype.kind != "f" or not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise InputError(f"an array of an image is uint8, or float in [0, 1], and this is {array.dtype}; convert it")
    pixels = array[..., None] if array.ndim == 2 else array
    # A copy, since torch cannot share an array that must not be written to.
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1), dtype=np.float32, order="C")


def reading_threads() -> int:
    """Return how many threads may read: as many as torch may use, and none where that is one."""
    import torch  # late: what an image set is, is known without

    threads = torch.get_num_threads()
    return threads if threads > 1 else 0


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int = 16
) -> Iterator[Result]:
    """Yield ``read(item)`` of each item in order; up to `ahead` results wait read, by `threads`, or none by 0.

    Decoders and resizing let go of Python's lock, so threads decode as fast as processes do (docs/lab/performance.md).
    What `read` raises is raised in the place of its result, and nothing more is read then.
    """
    if threads < 1:
        yield from map(read, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="reading") as readers:
        due = deque(readers.submit(read, item) for item in islice(waiting, ahead))
        try:
            while due:
                result = due.popleft().result()
                due.extend(readers.submit(read, item) for item in islice(waiting, 1))
                yield result
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
