"""Maps of a network's resolution brought to that of the images."""

from functools import lru_cache

import numpy as np
from torch import Tensor

from kdad.scoring.banded import Blocks, band_blocks, filter_axes


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
