"""The range of a folder's training images."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from kdad.errors import InputError
from kdad.images.files.decoding import RawImage, decode_raw
from kdad.images.files.file_facts import kind_by_header
from kdad.images.files.reading_ahead import read_ahead, reading_threads
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


def find_range(
    paths: list[Path], rule: Rule | list[float], decode: Callable[[Path], RawImage] = decode_raw
) -> ValueRange | None:
    """Return the range of all images of a set by the files of its training images; None for the types' limits.

    ``auto`` leaves 8 bits as they are, and looks at wider values; ``data`` looks in any case; `[low, high]` is taken
    as it is. Raises `InputError` when training files are of several kinds, or hold one value alone.
    """
    if rule == "type" or not paths:
        return None
    kinds: dict[str, Path] = {}
    for path in paths:
        try:
            kinds.setdefault(kind_by_header(path), path)
        except InputError:
            continue  # it is named with all other files that cannot be read
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
    return _measure(paths, rule == "data", decode)


def _measure(paths: list[Path], always: bool, decode: Callable[[Path], RawImage]) -> ValueRange:
    limits, kind = [], None
    looked = read_ahead(partial(_look, decode=decode), paths, reading_threads())
    for _, found in zip(counted(paths, "Range of values"), looked, strict=True):
        if found is not None:
            limits.append(found[0])
            kind = found[1]
    if kind is None:
        raise InputError(f"no training image can be read, the first is {paths[0]}; replace the files")
    return choose_range(kind, summed_limits(limits), always)


def _look(path: Path, decode: Callable[[Path], RawImage]) -> tuple[tuple[float, float], ValueKind] | None:
    """Return the limits and the kind of a file's values; None for one that is named with all that cannot be read."""
    try:
        pixels = decode(path).pixels
    except InputError:
        return None
    return used_limits(pixels), kind_of(pixels)


def say_range(values: ValueRange | None, limits: list[tuple[float, float]]) -> str:
    """Log what training images (whose files use `limits`) are scaled by, with advice where that is bad; return it."""
    if values is None:
        said, advice = "each file by its type's limits (dataset.value_range)", None
    else:
        summed = summed_limits(limits)
        said, advice = describe_range(values, summed), advise_on_range(values, summed)
    logger.info("Pixel values: %s", said)
    if advice is not None:
        logger.warning("Pixel values: %s", advice)
    return said if advice is None else f"{said}. {advice}"
