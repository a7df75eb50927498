"""Maps of a network's resolution brought to that of the images."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps `(B, h, w)` upsampled to `size` (H, W), bilinear, `(B, H, W)`.

    In a graph that is exported, by two products with constant matrices: runtimes multiply several times faster than
    they interpolate.
    """
    if torch.compiler.is_exporting():
        down, across = (enlarging_matrix(*sides) for sides in zip(maps.shape[1:], size, strict=True))
        return down @ maps @ across.T
    return interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def enlarging_matrix(side: int, target: int) -> Tensor:
    """Return the weights `(target, side)` by which `side` pixels become `target` ones, corners not aligned."""
    place = np.maximum((np.arange(target) + 0.5) * side / target - 0.5, 0)
    before = np.minimum(np.floor(place).astype(int), side - 1)
    share = place - before
    weights = np.zeros((target, side))
    np.add.at(weights, (np.arange(target), before), 1 - share)
    np.add.at(weights, (np.arange(target), np.minimum(before + 1, side - 1)), share)
    return torch.from_numpy(weights.astype(np.float32))
