"""What image files are like: size, mode, frames, and the range of values that training images use."""

import logging
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import IO, Literal

import numpy as np

from kdad.errors import InputError, first_of
from kdad.images.files.decoding import RawImage, decode_raw, is_wide, open_header
from kdad.images.files.reading import read_ahead, reading_threads
from kdad.images.files.value_range import (
    EIGHT_BITS,
    ValueKind,
    ValueRange,
    advise_on_range,
    choose_range,
    describe_range,
    kind_of,
    summed_limits,
    used_limits,
)
from kdad.progress import counted

logger = logging.getLogger(__name__)
Rule = Literal["auto", "type", "data"]
_MOST = 0.5  # of the room for temporary files; a file whose values take more is decoded again


@dataclass(frozen=True)
class FileFacts:
    """A file's size in pixels (upright), mode as Pillow names it, frames, and the values that its pixels lie between.

    All but a thousandth of the pixels lie from `low` to `high`. `deep` says that colours of 16 bits were read as their
    upper 8, and `two_values` that the pixels hold two values at most, as masks do.
    """

    height: int
    width: int
    mode: str
    values: ValueKind
    frames: int
    deep: bool
    low: float
    high: float
    two_values: bool

    @property
    def limits(self) -> tuple[float, float]:
        """The values that the pixels lie between."""
        return self.low, self.high


def measure_file(path: Path, raw: RawImage) -> FileFacts:
    """Return the facts of a file that was decoded to `raw`; raises `InputError` when later frames are torn."""
    with open_header(path) as file:
        # 16 bits a colour are told by the decoder's arguments alone: the mode is RGB.
        deep = not is_wide(file.mode) and any(";16" in str(tile.args) for tile in file.tile)
        frames = getattr(file, "n_frames", 1)
    pixels = raw.pixels
    height, width = pixels.shape[:2]
    # Of most images a few pixels say that they hold more than two values.
    some = pixels[:: max(height // 16, 1), :: max(width // 16, 1)]
    two_values = np.unique(some).size <= 2 and np.unique(pixels).size <= 2
    return FileFacts(height, width, raw.mode, kind_of(pixels), frames, deep, *used_limits(pixels), two_values)


def unusual_files(facts: dict[str, FileFacts]) -> list[str]:
    """Say of which files (by name) something is left out: all frames but the first, the lower half of 16-bit colours.

    One line a kind, with its first files.
    """
    several = [f"{name} ({file.frames})" for name, file in facts.items() if file.frames > 1]
    deep = [name for name, file in facts.items() if file.deep]
    kinds = {
        "have several pages or frames, of which the first is taken": several,
        "have colours of 16 bits, of which the upper 8 are taken": deep,
    }
    return [f"{len(names)} files {what}: {first_of(names, 3)}" for what, names in kinds.items() if names]


def find_range(
    paths: list[Path], rule: Rule | list[float], decode: Callable[[Path], RawImage] | None = None
) -> ValueRange | None:
    """Return the range of all images of a set by the files of its training images; None for the types' limits.

    ``auto`` leaves 8 bits as they are, and looks at wider values; ``data`` looks in any case; `[low, high]` is taken
    as it is. Raises `InputError` when training files are of several kinds, or hold one value alone. Files that cannot
    be read are passed over: they are named with all others of the set.
    """
    if rule == "type" or not paths:
        return None
    kinds: dict[str, Path] = {}
    for path in paths:
        try:
            kinds.setdefault(kind_by_header(path), path)
        except InputError:
            continue
    if len(kinds) > 1:
        named = ", ".join(f"{kind} ({path})" for kind, path in kinds.items())
        raise InputError(
            f"the training images hold values of several kinds, which cannot be compared: {named}; convert them to "
            "one, or give dataset.value_range=type, which scales each by its type's limits"
        )
    kind = next(iter(kinds), "8-bit")
    if isinstance(rule, list):
        return ValueRange(kind=kind, low=rule[0], high=rule[1])
    if rule == "auto" and kind == "8-bit":
        return EIGHT_BITS

    def look(path: Path) -> tuple[float, float] | None:
        try:
            return used_limits((decode or decode_raw)(path).pixels)
        except InputError:
            return None

    looked = read_ahead(look, paths, reading_threads())
    limits = [each for _, each in zip(counted(paths, "Range of values"), looked, strict=True) if each is not None]
    if not limits:
        raise InputError(f"no training image can be read, the first is {paths[0]}; replace the files")
    return choose_range(kind, summed_limits(limits), rule == "data")


def kind_by_header(path: Path) -> ValueKind:
    with open_header(path) as file:
        return "float" if file.mode == "F" else "integer" if is_wide(file.mode) else "8-bit"


def say_range(values: ValueRange | None, limits: list[tuple[float, float]]) -> str:
    """Log what training images (whose files use `limits`) are scaled by, with advice where that is bad; return it."""
    if values is None:
        said, advice = "each file by its type's limits (dataset.value_range)", None
    else:
        summed = summed_limits(limits)
        said, advice = describe_range(values, summed), advise_on_range(values, summed)
    logger.info("Pixel values: %s", said)
    if advice is None:
        return said
    logger.warning("Pixel values: %s", advice)
    return f"{said}. {advice}"


class RawValues:
    """Files' own values between the look at their range and what is made of them, so that none is decoded twice.

    They lie in a temporary file without a name (in TMPDIR), which is gone with the process.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._end = 0
        self._kept: dict[Path, tuple[int, tuple[int, ...], np.dtype, str]] = {}

    @cached_property
    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix="kdad-")

    @cached_property
    def _room(self) -> float:
        return _MOST * shutil.disk_usage(tempfile.gettempdir()).free

    def decode(self, path: Path) -> RawImage:
        """Decode a file and keep its values; raises `InputError` as `decode_raw`."""
        raw = decode_raw(path)
        with self._lock:
            if self._end + raw.pixels.nbytes <= self._room:
                self._file.seek(self._end)
                self._file.write(np.ascontiguousarray(raw.pixels).data)
                self._kept[path] = (self._end, raw.pixels.shape, raw.pixels.dtype, raw.mode)
                self._end += raw.pixels.nbytes
        return raw

    def take(self, path: Path) -> RawImage:
        """Return the values that were kept, or decode the file; raises `InputError` as `decode_raw`."""
        if path not in self._kept:
            return decode_raw(path)
        start, shape, dtype, mode = self._kept[path]
        with self._lock:
            self._file.seek(start)
            content = self._file.read(math.prod(shape) * dtype.itemsize)
        return RawImage(np.frombuffer(content, dtype).reshape(shape), mode)
