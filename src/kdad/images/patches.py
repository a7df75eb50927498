"""Where patches are sampled from images, and cutting them out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdad.errors import InputError


def sample_patches(
    rows: Sequence[int], size: tuple[int, int], patch_size: int, per_image: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Sample `per_image` patches of each image, uniformly over all places inside it.

    Returns a table (row, top, left): the image's row and the patch's upper left pixel. Raises `InputError` when a patch
    of `patch_size` pixels does not fit in images of `size` (H, W).
    """
    height, width = size
    if patch_size > min(size):
        raise InputError(f"patches.size is {patch_size}, but images are {height} x {width}; use smaller patches")
    count = len(rows) * per_image
    return pd.DataFrame(
        {
            "row": np.repeat(np.asarray(rows, dtype=np.int64), per_image),
            "top": generator.integers(0, height - patch_size + 1, count),
            "left": generator.integers(0, width - patch_size + 1, count),
        }
    )


def cut_patches(image: np.ndarray, tops: np.ndarray, lefts: np.ndarray, patch_size: int) -> np.ndarray:
    """Return the patches `(n, C, p, p)` of an image `(C, H, W)` at these upper left pixels.

    Raises `InputError` when the image is smaller than a patch, `IndexError` for a place outside.
    """
    if patch_size > min(image.shape[1:]):
        raise InputError(f"patches.size is {patch_size}, but the image is {image.shape[1]} x {image.shape[2]}")
    windows = np.lib.stride_tricks.sliding_window_view(image, (patch_size, patch_size), axis=(1, 2))
    return windows[:, tops, lefts].swapaxes(0, 1)
