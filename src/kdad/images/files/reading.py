"""Which files are images, images from anywhere (a path, a PIL image, an array), and files read in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from PIL import Image

from kdad.errors import InputError
from kdad.images.files.decoding import convert_pillow, decode_image
from kdad.images.files.value_range import EIGHT_BITS, ValueRange, kind_of

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


def find_images(place: Path) -> list[Path]:
    """Return the image files at or below `place`, at any depth, sorted; hidden files are left out.

    Raises `InputError` when it is not there, or holds none.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"there is no file or folder '{place}'; give the images that are to be predicted")
    paths = (path for path in place.rglob("*") if is_image(path) and path.is_file())
    images = sorted(p for p in paths if not any(map(is_hidden, p.relative_to(place).parts)))
    if not images:
        raise InputError(f"'{place}' holds no images ({EXTENSION_NAMES}), at any depth; give a folder that does")
    return images


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
