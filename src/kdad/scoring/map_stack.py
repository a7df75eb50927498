"""Writing stacks of maps batch by batch."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import smooth
from kdad.storage.disk_space import create_map, zeros

_CHUNK = 8  # maps worked on at once


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


def chunks_of(maps: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield maps `(N, H, W)`, which may lie in a file, some at a time, with their rows."""
    for start in range(0, len(maps), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(maps)))
        yield rows, torch.from_numpy(np.array(maps[rows]))


def smooth_all(maps: np.ndarray, steps: SmoothingParameters) -> np.ndarray:
    """Return maps `(N, H, W)` after the steps; many lie in a file (`large_arrays`)."""
    smoothed = zeros(maps.shape, np.float32)
    for rows, chunk in chunks_of(maps):
        smoothed[rows] = smooth(chunk, steps).numpy()
    return smoothed
