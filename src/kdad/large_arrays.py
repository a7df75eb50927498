"""Arrays as large as all test images together: in memory while they are small, else in a file."""

import math
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

#: Bytes that are held in memory; more lie in a file without a name, whose pages the system may take back.
IN_MEMORY = 1 << 28


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array of zeros; in the folder for temporary files (TMPDIR) where it is large."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="kdad-") as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))
