"""Writing stacks of maps batch by batch."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import smooth
from kdad.storage.disk_space import create_map
from kdad.storage.large_arrays import zeros

_CHUNK = 32  # maps filtered at once


def write_stacks(
    folder: Path, names: Sequence[str], shape: tuple[int, int, int], batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Write each batch's maps `(B, H, W)` by name into float32 ``<name>.npy`` of `shape`; return them memory-mapped.

    They are written under temporary names and renamed when complete; an interruption leaves older stacks as they were.
    Raises `DiskFullError` before the first batch when there is no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = {name: folder / f"{name}.tmp" for name in names}
    start = 0
    try:
        stacks = {name: create_map(path, np.float32, shape) for name, path in temporary.items()}
        for batch in batches:
            count = 0
            for name, stack in stacks.items():
                count = len(batch[name])
                stack[start : start + count] = batch[name]
            start += count
        while stacks:
            stacks.popitem()[1].flush()
        for name, path in temporary.items():
            os.replace(path, folder / f"{name}.npy")
    except BaseException:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        raise
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def write_stack(path: Path, shape: tuple[int, int, int], batches: Iterable[np.ndarray]) -> np.ndarray:
    """Write one stack as `write_stacks` does."""
    return write_stacks(path.parent, [path.stem], shape, ({path.stem: batch} for batch in batches))[path.stem]


def smooth_all(maps: np.ndarray, steps: SmoothingParameters) -> np.ndarray:
    """Return maps `(N, H, W)` after the steps, filtered some at a time; many lie in a file (`large_arrays`)."""
    smoothed = zeros(maps.shape, np.float32)
    for start in range(0, len(maps), _CHUNK):
        smoothed[start : start + _CHUNK] = smooth(np.asarray(maps[start : start + _CHUNK]), steps)
    return smoothed
