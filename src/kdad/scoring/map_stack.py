"""Writing a stack of maps batch by batch."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_stack(path: Path, shape: tuple[int, int, int], batches: Iterable[np.ndarray]) -> np.ndarray:
    """Write batches `(B, H, W)` one after another into a float32 ``.npy`` of `shape` and return it memory-mapped.

    It is written under a temporary name and renamed when complete; an interruption leaves an older stack as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    stack = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    try:
        for batch in batches:
            stack[start : start + len(batch)] = batch
            start += len(batch)
        stack.flush()
        del stack
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return np.load(path, mmap_mode="r")
