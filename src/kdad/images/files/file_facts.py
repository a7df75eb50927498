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
from kdad.images.files.decoding import (
    RawImage,
    band_file,
    decode_raw,
    is_wide,
    open_header,
    read_ahead,
    reading_threads,
)
from kdad.images.files.value_range import (
    EIGHT_BITS,
    ValueKind,
    ValueRange,
    choose_range,
    describe_range,
    kind_of,
    summed_limits,
    used_limits,
)
from kdad.progress import counted

logger = logging.getLogger(__name__)
Rule = Literal["auto", "type", "data"]
_ZEROS = 48  # bytes of 0 in a row: more than a block of any picture has
_MIDDLE = 128
_ENDS = (slice(0, 8), slice(-8, None))
_MOST = 0.5  # of the room for temporary files; a file whose values take more is decoded again


@dataclass(frozen=True)
class FileFacts:
    """A file's size in pixels (upright), mode as Pillow names it, frames, and the values that its pixels lie between.

    All but a thousandth of the pixels lie from `low` to `high`. `deep` says that colours of 16 bits were read as their
    upper 8, `two_values` that the pixels hold two values, as masks do, `clear` that an alpha of 0 everywhere was left
    out, and `damaged` what a JPEG lacks though it can be decoded.
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
    clear: bool = False
    damaged: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether all pixels hold one value, but for a thousandth at either end."""
        return self.low == self.high and not self.two_values

    @property
    def limits(self) -> tuple[float, float]:
        """The values that the pixels lie between."""
        return self.low, self.high


def measure_file(path: Path, raw: RawImage) -> FileFacts:
    """Return the facts of a file that was decoded to `raw`; raises `InputError` when later frames are torn."""
    pixels, deep, damaged = raw.pixels, False, ""
    if bands := band_file(path):
        frames = bands.pages
    else:
        with open_header(path) as file:
            # 16 bits a colour are told by the decoder's arguments alone: the mode is RGB.
            deep = not is_wide(file.mode) and any(";16" in str(tile.args) for tile in file.tile)
            frames = getattr(file, "n_frames", 1)
            if file.format in ("JPEG", "MPO"):
                damaged = find_damage(path.read_bytes(), pixels)
    height, width = pixels.shape[:2]
    # Of most images a few pixels say that they hold more than two values.
    some = pixels[:: max(height // 16, 1), :: max(width // 16, 1)]
    two_values = np.unique(some).size <= 2 and np.unique(pixels).size == 2
    limits = used_limits(pixels)
    return FileFacts(height, width, raw.mode, kind_of(pixels), frames, deep, *limits, two_values, raw.clear, damaged)


def find_damage(content: bytes, pixels: np.ndarray) -> str:
    """Say what a JPEG file lacks whose decoder goes on without a word; empty where nothing is known to be wrong.

    A decoder fills what is missing at the end with the middle of the range. Its upright `pixels` are `(H, W, 3)`.
    """
    start, zeros_are_flat = _look_at_codes(content)
    if not zeros_are_flat and content.find(bytes(_ZEROS), start) >= 0:
        return "a piece of zeros"
    corners = (pixels[rows, columns] for rows in _ENDS for columns in _ENDS)  # the end is at one of them, turned or not
    grey = any((corner == _MIDDLE).all() for corner in corners)
    return "a piece that is missing at the end" if grey and not (pixels == _MIDDLE).all() else ""


def _look_at_codes(content: bytes) -> tuple[int, bool]:
    """Return where a JPEG's pixels begin, and whether bits of 0 may be what one colour is coded by.

    They may where the shortest AC code of every table, which is of zeros, ends a block, and in progressive files.
    """
    place, ends_blocks = 2, []
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if content[place + 1] == 0xC2:
            return place, True
        if content[place + 1] == 0xC4:
            table, end = place + 4, place + 2 + length
            while table + 17 < end:
                if content[table] >> 4:
                    ends_blocks.append(content[table + 17] == 0)
                table += 17 + sum(content[table + 1 : table + 17])
        place += 2 + length
    return place, all(ends_blocks)


def unusual_files(facts: dict[str, FileFacts]) -> list[str]:
    """Say of which files (by name) something is left out: all frames but the first, the lower half of 16-bit colours.

    One line a kind, with its first files.
    """
    several = [f"{name} ({file.frames})" for name, file in facts.items() if file.frames > 1]
    deep = [name for name, file in facts.items() if file.deep]
    kinds = {
        "are JPEGs that look damaged, as their decoder does not say; replace them": [
            f"{name} ({file.damaged})" for name, file in facts.items() if file.damaged
        ],
        "have an alpha of 0 everywhere, which is left out": [name for name, file in facts.items() if file.clear],
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
    if bands := band_file(path):
        return kind_of(np.empty(0, np.uint8 if bands.dtype == bool else bands.dtype))
    with open_header(path) as file:
        return "float" if file.mode == "F" else "integer" if is_wide(file.mode) else "8-bit"


def say_range(values: ValueRange | None, limits: list[tuple[float, float]]) -> None:
    """Log what training images (whose files use `limits`) are scaled by, with advice where that is bad."""
    summed = summed_limits(limits) if limits else (0.0, 1.0)
    if values is None:
        said, advice = "each file by its type's limits (dataset.value_range)", None
    else:
        said, advice = describe_range(values, summed)
    logger.info("Pixel values: %s", said)
    if summed[0] == summed[1]:
        raise InputError(
            f"the training images hold nearly everywhere the one value {summed[0]:g}, so that nothing can be learnt "
            "from them; look at the files"
        )
    if advice is not None:
        logger.warning("Pixel values: %s", advice)


class RawValues:
    """Files' own values between the look at their range and what is made of them, so that none is decoded twice.

    They lie in a temporary file without a name (in TMPDIR), which is gone with the process.
    """

    def __init__(self, bands: tuple[int, ...] | None = None) -> None:
        self._bands = bands
        self._lock = Lock()
        self._end = 0
        self._kept: dict[Path, tuple[int, tuple[int, ...], np.dtype, str, bool]] = {}

    @cached_property
    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix="kdad-")

    @cached_property
    def _room(self) -> float:
        return _MOST * shutil.disk_usage(tempfile.gettempdir()).free

    def decode(self, path: Path) -> RawImage:
        """Decode a file and keep its values; raises `InputError` as `decode_raw`."""
        raw = decode_raw(path, self._bands)
        with self._lock:
            if self._end + raw.pixels.nbytes <= self._room:
                self._file.seek(self._end)
                self._file.write(np.ascontiguousarray(raw.pixels).data)
                self._kept[path] = (self._end, raw.pixels.shape, raw.pixels.dtype, raw.mode, raw.clear)
                self._end += raw.pixels.nbytes
        return raw

    def take(self, path: Path) -> RawImage:
        """Return the values that were kept, or decode the file; raises `InputError` as `decode_raw`."""
        if path not in self._kept:
            return decode_raw(path, self._bands)
        start, shape, dtype, mode, clear = self._kept[path]
        with self._lock:
            self._file.seek(start)
            content = self._file.read(math.prod(shape) * dtype.itemsize)
        return RawImage(np.frombuffer(content, dtype).reshape(shape), mode, clear)
