"""Images as vectors `(N, D)`: shrunk pixels, their principal components, the source's mean activations."""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from torch.nn.functional import interpolate

from kdad.features.cache import ActivationCache

_BATCH = 256


def represent(
    cache: ActivationCache, rows: np.ndarray, training: np.ndarray, kind: str, side: int, components: int
) -> np.ndarray:
    """Return these rows as `(N, D)` float32; what is fitted is fitted on the `training` rows.

    ``pixels``: shrunk to `side` x `side`, three channels. ``pca``: at most `components` principal components of those.
    ``source``: each critical point's activations, averaged over positions.
    """
    if kind == "source":
        return _batched(rows, lambda batch: _mean_activations(cache, batch))
    pixels = _batched(rows, lambda batch: _shrunk(cache, batch, side))
    if kind == "pixels":
        return pixels
    known = _batched(training, lambda batch: _shrunk(cache, batch, side))
    count = min(components, len(known) - 1, known.shape[1])
    return PCA(max(count, 1), random_state=0).fit(known).transform(pixels).astype(np.float32)


def _mean_activations(cache: ActivationCache, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([point.mean(dim=(2, 3)).numpy() for point in cache.activations(rows)], axis=1)


def _shrunk(cache: ActivationCache, rows: np.ndarray, side: int) -> np.ndarray:
    small = interpolate(cache.images(rows), (side, side), mode="bilinear", antialias=True)
    return small.flatten(1).numpy()


def _batched(rows: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.concatenate([compute(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)])
