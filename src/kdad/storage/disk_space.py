"""Room on a disk: taken before memory maps are written, large arrays, and a full disk told in one message."""

import errno
import math
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from kdad.errors import InputError

#: No room on the disk, the user's quota used up, a file larger than the process or the file system may write.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: How libraries say so that keep no number: the system's words, and NumPy's.
_FULL_TEXTS = re.compile("|".join(map(os.strerror, _FULL)) + r"|\d+ requested and \d+ written")
_BLOCK = 1 << 22  # bytes of zeros written at once


class DiskFullError(InputError):
    """There is no room for what was to be written; the message names the place, and what is missing."""


def create_map(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """Make a ``.npy`` file of zeros whose room on the disk is taken, and return it memory-mapped.

    Writing into the map of a file without room would end the process with "Bus error". Raises `DiskFullError` before
    anything is written, and leaves no file.
    """
    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _take(path, array.offset, needed)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if is_full(error):
            what = f"'{path.name}' needs {needed / 1e6:,.1f} MB in '{path.parent.absolute()}'"
            raise DiskFullError(_message(what, free)) from error
        raise
    return array


@contextmanager
def disk_full_error(place: Path) -> Iterator[None]:
    """Turn whatever a full disk makes of writing to `place` (a file or folder) into a `DiskFullError`."""
    try:
        yield
    except InputError:
        raise  # it says what is wrong already
    except Exception as error:
        if not is_full(error):
            raise
        raise disk_full(place) from error


def disk_full(place: Path) -> DiskFullError:
    """Return the error that says how much is left where `place` lies."""
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    return DiskFullError(_message(f"'{place}' could not be written whole", shutil.disk_usage(existing).free))


def is_full(error: BaseException | None) -> bool:
    """Tell whether a full disk is behind an error; libraries wrap it, or keep only its text."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _FULL) or _FULL_TEXTS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _take(path: Path, start: int, size: int) -> None:
    """Have the disk keep `size` bytes of a file from `start`, which hold zeros so far."""
    if size == 0:
        return
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), start, size)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                    raise
        file.seek(start)
        for written in range(0, size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - written)))
        file.flush()
        os.fsync(file.fileno())  # some file systems find out only now


def _message(what: str, free: int) -> str:
    return f"the disk is full: {what}, where {free / 1e6:,.1f} MB are free; free some space and run again"


#: Bytes that are held in memory; more lie in a file, whose pages the system may take back.
IN_MEMORY = 1 << 28


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array of zeros; a large one lies in the folder for temporary files (TMPDIR), where that has room.

    Nothing is left of its file.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.zeros(shape, dtype)
    folder = tempfile.TemporaryDirectory(prefix="kdad-", ignore_cleanup_errors=True)
    try:
        array = create_map(Path(folder.name) / "values.npy", dtype, tuple(shape))
    except DiskFullError:
        folder.cleanup()
        return np.zeros(shape, dtype)
    if os.name == "posix":
        folder.cleanup()  # the map stays, and a process that is killed leaves nothing
    else:
        weakref.finalize(array, folder.cleanup)
    return array
