"""Arrays as large as all test images together: in memory while they are small, else in a file."""

import math
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from kdad.storage.disk_space import DiskFullError, create_map

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
