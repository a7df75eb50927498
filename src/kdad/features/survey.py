"""Which normal images are unlike the others, by what the frozen networks of a run gave for them on average."""

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from kdad.features.cache import FeatureCache
from kdad.images.checks import THUMBNAIL_SIDE
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split, rows_by_category

_OUTLYING = 6.0  # robust standard deviations of the outlyingness itself
_LEAST = 8  # images that say what is usual
_ROWS, _COLUMNS = 1024, 32  # that are worked on at once
_ROBUST_SD = 1.4826  # of a normal distribution, in median absolute deviations


def measure_outlyingness(split: Split, features: Iterable[FeatureCache]) -> np.ndarray:
    """Return how far each normal image that trains or is held out is from the others, `(N,)`; NaN for other images.

    It is measured by the mean of each channel of all networks' outputs; in a united set, among its own category.
    """
    means = np.concatenate([cache.means for cache in features], axis=1)
    outlyingness = np.full(len(split), np.nan)
    for rows in rows_by_category(split.table[split.table["split"].isin(("train", "validation"))]):
        outlyingness[rows] = distance_from_medians(means[rows])
    return outlyingness


def find_suspicious(outlyingness: np.ndarray) -> np.ndarray:
    """Return the rows of normal images that are unlike the others, the farthest first."""
    known = outlyingness[~np.isnan(outlyingness)]
    if known.size < _LEAST:
        return np.empty(0, dtype=int)
    middle, spread = _robust(known[:, None])
    limit = float(middle[0] + _OUTLYING * spread[0])
    beyond = np.flatnonzero(np.nan_to_num(outlyingness, nan=-np.inf) > limit)
    return beyond[np.argsort(-outlyingness[beyond], kind="stable")]


def draw_thumbnails(images: ImageSet) -> np.ndarray:
    """Return a grey thumbnail of each image, `(N, S, S)` in [0, 1]."""
    read = images.images_of(np.arange(len(images.samples)))
    small = (adaptive_avg_pool2d(torch.from_numpy(image.mean(axis=0)[None]), THUMBNAIL_SIDE)[0] for image in read)
    return np.stack([thumbnail.numpy() for thumbnail in small])


def distance_from_medians(vectors: np.ndarray) -> np.ndarray:
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
