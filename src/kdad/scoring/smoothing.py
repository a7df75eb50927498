"""Filters that anomaly maps `(B, H, W)` pass through, each map alone."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdad.errors import InputError
from kdad.scoring.banded import Blocks, band_blocks, filter_axes
from kdad.scoring.parameters import SmoothingParameters


def smooth(maps: Tensor, steps: SmoothingParameters) -> Tensor:
    """Return maps after the steps, in the published code's order: clip, Gaussian filter, opening."""
    return grey_opening(
        gaussian_filter(clip_peaks(maps, steps.clip_quantile), steps.gaussian_sigma), steps.opening_size
    )


def clip_peaks(maps: Tensor, quantile: float) -> Tensor:
    """Return maps with values above the `quantile` of their own map lowered to it; 1 changes nothing.

    A gradient's few extreme pixels would otherwise outshine the rest after a Gaussian filter. Raises `InputError` for a
    quantile outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise InputError(f"clip_quantile is {quantile}; it must be above 0 and at most 1 (1 clips nothing)")
    if quantile == 1:
        return maps
    position = quantile * (maps[0].numel() - 1)
    below = math.floor(position)
    highest = maps.flatten(1).topk(maps[0].numel() - below, dim=1).values  # descending, and ends with the one below
    low, high = highest[:, -1], highest[:, max(highest.shape[1] - 2, 0)]
    return torch.minimum(maps, (low + (high - low) * (position - below))[:, None, None])


def gaussian_filter(maps: Tensor, sigma: float) -> Tensor:
    """Return maps filtered by a Gaussian of standard deviation `sigma` in pixels; 0 leaves them alone.

    Borders are reflected and the kernel ends at 4 sigma. Raises `InputError` for a negative `sigma`.
    """
    if not sigma >= 0:
        raise InputError(f"gaussian_sigma is {sigma}; it must be 0 (no filter) or a positive number of pixels")
    return filter_axes(maps, *(_gaussian_blocks(side, sigma) for side in maps.shape[1:])) if sigma else maps


@lru_cache(maxsize=64)
def _gaussian_blocks(side: int, sigma: float) -> Blocks:
    radius = int(4 * sigma + 0.5)
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

    3 gives the cross. Raises `InputError` when `size` is even or below 1.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"opening_size is {size}; it must be odd (0 leaves the opening out)")
    radius = size // 2
    offsets = np.arange(-radius, radius + 1)
    half_widths = np.rint(np.sqrt(radius**2 - offsets**2))
    return np.abs(offsets)[None, :] <= half_widths[:, None]
