"""Linear filters along the rows and columns of maps, as products with banded matrices.

Processors and the runtimes of exported files multiply several times faster than they convolve or interpolate
(docs/lab/performance.md).
"""

import numpy as np
import torch
from torch import Tensor

#: Of each block of rows: the first and the past-the-last row that it takes in, and their weights.
Blocks = list[tuple[int, int, np.ndarray]]

_ROWS = 256  # that a block gives at most: so a large map costs what its band holds, and not its side squared


def band_blocks(sources: np.ndarray, weights: np.ndarray) -> Blocks:
    """Return in blocks the matrix whose row i takes in the rows `sources[i]` with `weights[i]`, both `(n, k)`."""
    blocks = []
    for rows in np.array_split(np.arange(len(sources)), -(-len(sources) // _ROWS)):
        first, end = int(sources[rows].min()), int(sources[rows].max()) + 1
        block = np.zeros((len(rows), end - first))
        np.add.at(block, (np.arange(len(rows))[:, None], sources[rows] - first), weights[rows])
        blocks.append((first, end, block.astype(np.float32)))
    return blocks


def filter_axes(maps: Tensor, down: Blocks, across: Blocks) -> Tensor:
    """Return maps `(B, h, w)` filtered along columns, then along rows, `(B, H, W)`."""
    return _filter_columns(_filter_columns(maps, down).mT, across).mT


def _filter_columns(maps: Tensor, blocks: Blocks) -> Tensor:
    parts = [torch.from_numpy(weights).to(maps.device) @ maps[:, first:end] for first, end, weights in blocks]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
