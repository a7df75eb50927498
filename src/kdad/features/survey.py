"""One look at every image before anything is trained: thumbnails, masks' areas, and normal images unlike the others."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from kdad.images.checks.duplicates import THUMBNAIL_SIDE
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.networks.source import Source
from kdad.progress import counted

_SMALLEST, _LARGEST = 32, 96  # pixels a side that a source sees: enough to tell an image that does not belong
_BATCH = 16
_OUTLYING = 5.0  # robust standard deviations of the outlyingness itself
_LEAST = 8  # images that say what is usual
_ROWS, _COLUMNS = 1024, 32  # that are worked on at once
_ROBUST_SD = 1.4826  # of a normal distribution, in median absolute deviations


@dataclass(frozen=True)
class Survey:
    """A row an image of the split: grey `thumbnails` `(N, S, S)` in [0, 1], `mask_pixels` and `outlyingness`.

    Mask pixels are anomalous ones at the model's size, -1 where no mask is known. Outlyingness is NaN but for normal
    images that train or are held out.
    """

    thumbnails: np.ndarray
    mask_pixels: np.ndarray
    outlyingness: np.ndarray

    @property
    def suspicious(self) -> np.ndarray:
        """The rows of normal images that are unlike the others, the farthest first."""
        known = self.outlyingness[~np.isnan(self.outlyingness)]
        if known.size < _LEAST:
            return np.empty(0, dtype=int)
        middle, spread = _robust(known[:, None])
        limit = float(middle[0] + _OUTLYING * spread[0])
        found = np.flatnonzero(np.nan_to_num(self.outlyingness, nan=-np.inf) > limit)
        return found[np.argsort(-self.outlyingness[found], kind="stable")]


@torch.no_grad()
def survey_images(images: ImageSet, split: Split, source: Source) -> Survey:
    """Look at every image once; what a `source` gives on average for normal ones says how unusual they are."""
    count = len(split)
    normal = np.isin(split.table["split"], ("train", "validation"))
    thumbnails = np.empty((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.float32)
    activations, filled = np.empty((0, 0), np.float32), 0
    read = images.images_of(np.arange(count), _BATCH)
    for start in counted(range(0, count, _BATCH), "Data report"):
        rows = np.arange(start, min(start + _BATCH, count))
        batch = torch.from_numpy(np.stack(list(islice(read, _BATCH))))
        thumbnails[rows] = adaptive_avg_pool2d(batch.mean(dim=1, keepdim=True), THUMBNAIL_SIDE)[:, 0].numpy()
        seen = batch[torch.from_numpy(normal[rows])]
        if len(seen):
            found = mean_activations(seen, source)
            if not filled:
                activations = np.empty((int(normal.sum()), found.shape[1]), np.float32)
            activations[filled : filled + len(found)] = found
            filled += len(found)
    outlyingness = np.full(count, np.nan)
    if filled:
        outlyingness[normal] = measure_outlyingness(activations)
    return Survey(thumbnails, _mask_pixels(images, split), outlyingness)


def mean_activations(images: torch.Tensor, source: Source) -> np.ndarray:
    """Return the mean of each channel at each critical point `(B, C)` for images `(B, 3, H, W)`, seen small."""
    sides = [min(max(side, _SMALLEST), _LARGEST) for side in images.shape[2:]]
    small = interpolate(images, size=sides, mode="bilinear", antialias=True)
    return np.concatenate([found.mean(dim=(2, 3)).numpy() for found in source.activations(small)], axis=1)


def measure_outlyingness(vectors: np.ndarray) -> np.ndarray:
    """Return how far each of `(N, C)` is from the medians, in robust standard deviations: root mean square over C."""
    middle, spread = _robust(vectors)
    varies = spread > 1e-6 * max(float(np.abs(middle).max()), 1e-12)
    if not varies.any():
        return np.zeros(len(vectors))
    unit = np.where(varies, spread, 1)
    blocks = np.array_split(vectors, -(-len(vectors) // _ROWS))
    return np.concatenate([np.sqrt(np.mean(((rows - middle) / unit)[:, varies] ** 2, axis=1)) for rows in blocks])


def _robust(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and robust standard deviation of each column; no second copy of all is made."""
    blocks = np.array_split(vectors, -(-vectors.shape[1] // _COLUMNS), axis=1)
    middle = [np.median(columns, axis=0) for columns in blocks]
    spread = [np.median(np.abs(columns - one), axis=0) for columns, one in zip(blocks, middle, strict=True)]
    return np.concatenate(middle), _ROBUST_SD * np.concatenate(spread)


def _mask_pixels(images: ImageSet, split: Split) -> np.ndarray:
    found = np.full(len(split), -1)
    for row in np.flatnonzero(split.table["has_mask"]):
        mask = images.mask(int(row))
        found[row] = -1 if mask is None else mask.sum()
    return found
