"""The filters of `smoothing` on tensors, as parts of a graph: the same numbers, to float32's last digits."""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import elliptic_element


class Smoothing(nn.Module):
    """Clip, Gaussian filter and opening of maps `(B, H, W)` of one `size` (H, W), as `smooth` does them."""

    def __init__(self, steps: SmoothingParameters, size: tuple[int, int]) -> None:
        super().__init__()
        self.clip_quantile, self.opening_size = steps.clip_quantile, steps.opening_size
        self.filters = steps.gaussian_sigma > 0
        if self.filters:
            for name, side in zip(("down", "across"), size, strict=True):
                self.register_buffer(name, gaussian_matrix(side, steps.gaussian_sigma))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the filtered maps."""
        maps = clip_peaks(maps, self.clip_quantile)
        if self.filters:
            maps = self.down @ maps @ self.across.T
        return grey_opening(maps, self.opening_size)


def gaussian_matrix(side: int, sigma: float) -> Tensor:
    """Return the Gaussian filter of `side` pixels as a matrix, borders reflected, the kernel ending at 4 sigma."""
    filtered = ndimage.gaussian_filter1d(np.eye(side), sigma, axis=0, mode="reflect", truncate=4.0)
    return torch.from_numpy(filtered.astype(np.float32))


def clip_peaks(maps: Tensor, quantile: float) -> Tensor:
    """Return maps with values above the `quantile` of their own map lowered to it."""
    if quantile == 1:
        return maps
    place = quantile * (maps[0].numel() - 1)
    below = math.floor(place)
    highest = maps.flatten(1).topk(maps[0].numel() - below, dim=1).values  # descending, and ends with the one below
    low, high = highest[:, -1], highest[:, max(highest.shape[1] - 2, 0)]
    return torch.minimum(maps, (low + (high - low) * (place - below))[:, None, None])


def grey_opening(maps: Tensor, size: int) -> Tensor:
    """Return maps after erosion and dilation by `elliptic_element(size)`; 0 leaves them alone."""
    return maps if size == 0 else _dilate(-_dilate(-maps, size), size)


def _dilate(maps: Tensor, size: int) -> Tensor:
    """Return the maximum under the element, row by row of it: a row is a run of pixels, which a pool goes over."""
    radius, height = size // 2, maps.shape[-2]
    lowest = torch.finfo(maps.dtype).min
    padded = F.pad(maps[:, None], (0, 0, radius, radius), value=lowest)
    found = None
    for row, half in enumerate(elliptic_element(size).sum(axis=1) // 2):
        run = padded[:, :, row : row + height]
        run = F.max_pool2d(run, (1, 2 * int(half) + 1), 1, (0, int(half))) if half else run
        found = run if found is None else torch.maximum(found, run)
    return found[:, 0]
