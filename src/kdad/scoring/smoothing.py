"""Filters that anomaly maps `(B, H, W)` pass through, each alone, and the mean of several.

Linear ones are products with banded matrices along rows and columns: processors and the runtimes of exported files
multiply several times faster than they convolve or interpolate (docs/lab/performance.md).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdad.scoring.parameters import SmoothingParameters
from kdad.storage.disk_space import zeros

#: Of each block of rows: the first and the past-the-last row that it takes in, and their weights.
Blocks = list[tuple[int, int, np.ndarray]]

_ROWS = 256  # that a block gives at most: so a large map costs what its band holds, and not its side squared
_CHUNK = 8  # maps worked on at once
_FLOOR = 1e-8  # in a geometric mean no value is taken for smaller: far below what float32 resolves of a distance


def smooth(maps: Tensor, steps: SmoothingParameters, region: np.ndarray | None = None) -> Tensor:
    """Return maps after the steps, in the published code's order: clip, Gaussian filter, opening.

    Where a `region` counts alone, bool `(H, W)`, pixels outside have the lowest value inside, so that no map or score
    shows them.
    """
    clipped = clip_peaks(maps, steps.clip_quantile, region)
    smoothed = grey_opening(gaussian_filter(clipped, steps.gaussian_sigma), steps.opening_size)
    if region is None:
        return smoothed
    counts = torch.from_numpy(region).to(maps.device)
    return torch.where(counts, smoothed, _of_region(smoothed, region).amin(1)[:, None, None])


def _of_region(maps: Tensor, region: np.ndarray | None) -> Tensor:
    """Return the values of each map that count, `(B, n)`."""
    values = maps.flatten(1)
    if region is None:
        return values
    return values.index_select(1, torch.from_numpy(np.flatnonzero(region)).to(maps.device))


def reach_of(steps: SmoothingParameters) -> int:
    """Return how many pixels away a map's value is carried at most when it is smoothed."""
    return _radius(steps.gaussian_sigma) + max(steps.opening_size - 1, 0)


def lower_ignored(maps: Tensor, ignored: Sequence[np.ndarray | None]) -> None:
    """Give the `ignored` pixels `(H, W)` of each of the maps `(B, H, W)` its lowest value of the others, in place."""
    for one, mask in zip(maps, ignored, strict=True):
        if mask is not None and mask.any() and not mask.all():
            counts = torch.from_numpy(~mask).to(one.device)
            one[~counts] = one[counts].min()


def smooth_all(maps: np.ndarray, steps: SmoothingParameters, region: np.ndarray | None = None) -> np.ndarray:
    """Return maps `(N, H, W)` after the steps as `smooth` does; many lie in a file (`large_arrays`)."""
    smoothed = zeros(maps.shape, np.float32)
    for rows in chunks_of(maps):
        smoothed[rows] = smooth(torch.from_numpy(np.array(maps[rows])), steps, region).numpy()
    return smoothed


def chunks_of(maps: np.ndarray) -> list[slice]:
    """Return the rows of maps `(N, H, W)`, which may lie in a file, some at a time."""
    return [slice(start, min(start + _CHUNK, len(maps))) for start in range(0, len(maps), _CHUNK)]


def clip_peaks(maps: Tensor, quantile: float, region: np.ndarray | None = None) -> Tensor:
    """Return maps with values above the `quantile` of their own map, or its `region`, lowered to it; 1 changes nothing.

    A gradient's few extreme pixels would otherwise outshine the rest after a Gaussian filter.
    """
    if quantile == 1:
        return maps
    values = _of_region(maps, region)
    position = quantile * (values.shape[1] - 1)
    below = math.floor(position)
    highest = values.topk(values.shape[1] - below, dim=1).values  # descending, and ends with the one below
    low, high = highest[:, -1], highest[:, max(highest.shape[1] - 2, 0)]
    return torch.minimum(maps, (low + (high - low) * (position - below))[:, None, None])


def gaussian_filter(maps: Tensor, sigma: float) -> Tensor:
    """Return maps filtered by a Gaussian of standard deviation `sigma` in pixels; 0 leaves them alone.

    Borders are reflected and the kernel ends at 4 sigma.
    """
    return filter_axes(maps, *(_gaussian_blocks(side, sigma) for side in maps.shape[1:])) if sigma else maps


def _radius(sigma: float) -> int:
    return int(4 * sigma + 0.5)


@lru_cache(maxsize=64)
def _gaussian_blocks(side: int, sigma: float) -> Blocks:
    radius = _radius(sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    sources = (np.arange(side)[:, None] + offsets) % (2 * side)  # of the map and its mirror image, which then repeat
    sources = np.minimum(sources, 2 * side - 1 - sources)
    return band_blocks(sources, np.broadcast_to(kernel / kernel.sum(), sources.shape))


def grey_opening(maps: Tensor, size: int) -> Tensor:
    """Return maps after erosion and dilation by `elliptic_element(size)`; 0 leaves them alone.

    Bright spots that the element does not fit into are lowered to their surroundings. Thresholding the result is the
    same as the binary opening of the thresholded map. Pixels beyond the border have no say.
    """
    return maps if size == 0 else _dilate(-_dilate(-maps, size), size)


def _dilate(maps: Tensor, size: int) -> Tensor:
    """Return the maximum under the element, whose rows are runs of pixels: of ever longer runs, row by row."""
    half_lengths = elliptic_element(size).sum(axis=1) // 2
    radius, (height, width) = size // 2, maps.shape[1:]
    padded = F.pad(maps, (radius,) * 4, value=torch.finfo(maps.dtype).min)
    run = padded[:, :, radius : radius + width]
    highest = maps
    for half in range(radius + 1):
        for column in {radius - half, radius + half} if half else ():
            run = torch.maximum(run, padded[:, :, column : column + width])
        for row in np.flatnonzero(half_lengths == half).tolist():
            highest = torch.maximum(highest, run[:, row : row + height])
    return highest


def elliptic_element(size: int) -> np.ndarray:
    """Return the disc of odd diameter `size` as `(size, size)` booleans, rasterised by rows as OpenCV's ellipse is.

    3 gives the cross.
    """
    radius = size // 2
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.rint(np.sqrt(radius**2 - offsets**2))
    return np.abs(offsets)[None, :] <= half_widths[:, None]


def geometric_mean(maps: Sequence[Tensor]) -> Tensor:
    """Return the geometric mean `(B, H, W)` of maps of that shape, none of whose values are negative.

    It asks all maps to agree: what one alone shows is damped.
    """
    return torch.stack(list(maps)).clamp_min(_FLOOR).log().mean(0).exp()


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps `(B, h, w)` upsampled to `size` (H, W), bilinear, corners not aligned, `(B, H, W)`."""
    return filter_axes(maps, *(upsampling_blocks(*sides) for sides in zip(maps.shape[1:], size, strict=True)))


@lru_cache(maxsize=64)
def upsampling_blocks(side: int, target: int) -> Blocks:
    """Return the weights by which `side` pixels become `target` ones, as torch's `interpolate` has them."""
    # The ratio in float32, as torch has it: the last of many pixels would lie elsewhere by hundredths of a thousandth.
    ratio = float(np.float32(side) / np.float32(target))
    place = np.maximum((np.arange(target) + 0.5) * ratio - 0.5, 0).astype(np.float32)
    before = np.minimum(place.astype(int), side - 1)
    after = np.minimum(before + 1, side - 1)
    share = place - before
    return band_blocks(np.stack([before, after], axis=1), np.stack([1 - share, share], axis=1))


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
