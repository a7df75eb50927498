"""The IDX format of the MNIST files (LeCun, Cortes & Burges, "The MNIST database of handwritten digits")."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from kdad.errors import InputError

_UNSIGNED_BYTE = 0x08
_MOST = 1 << 28  # bytes, unpacked: five times the largest file of MNIST


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not, as a uint8 array of so many dimensions.

    Raises `InputError` naming the file when it is missing, damaged, of another type or shape, or not exactly as long
    as its header says.
    """
    content = _read_bytes(path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:2] != b"\0\0":
        raise InputError(f"{path}: is not an IDX file (wrong first bytes or too short); fetch it again")
    if content[2] != _UNSIGNED_BYTE:
        raise InputError(f"{path}: holds values of type 0x{content[2]:02x}; only unsigned bytes (0x08) are read")
    if content[3] != dimensions:
        raise InputError(
            f"{path}: has {content[3]} dimensions instead of {dimensions}; images and labels may be swapped"
        )
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise InputError(f"{path}: has {len(content)} bytes where its header says {expected}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(content) > _MOST:
        raise InputError(f"{path}: holds more than {_MOST >> 20} MB, unlike any set in this format; fetch it again")
    return content
