"""Detectors of patches on the source's activations: each position gets a score, so that they map."""

from collections.abc import Callable

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM
from torch import Tensor, cat
from torch.nn.functional import interpolate

from kdad.features.cache import ActivationCache

#: Patches `(B, P, C)`, P positions an image, to scores `(B, P)`.
PatchScores = Callable[[np.ndarray], np.ndarray]
_BATCH = 16


def patch_features(cache: ActivationCache, rows: np.ndarray, points: list[str]) -> Tensor:
    """Return the points' activations side by side `(B, C, h, w)`, on the grid of the finest of them."""
    chosen = [found for name, found in zip(cache.names, cache.activations(rows), strict=True) if name in points]
    grid = max((found.shape[-2:] for found in chosen), key=lambda size: size[0] * size[1])
    return cat([interpolate(found, grid, mode="bilinear", align_corners=False) for found in chosen], dim=1)


def sample_patches(
    cache: ActivationCache, rows: np.ndarray, points: list[str], count: int, generator: np.random.Generator
) -> np.ndarray:
    """Return about `count` patches `(N, C)`, equally many from each image, drawn without repeats."""
    kept = []
    for start in range(0, len(rows), _BATCH):
        batch = patches_of(patch_features(cache, rows[start : start + _BATCH], points))
        share = min(max(-(-count // len(rows)), 1), batch.shape[1])
        drawn = generator.permuted(np.broadcast_to(np.arange(batch.shape[1]), batch.shape[:2]), axis=1)[:, :share]
        kept.append(np.take_along_axis(batch, drawn[..., None], axis=1).reshape(-1, batch.shape[2]))
    return np.concatenate(kept)


def patches_of(features: Tensor) -> np.ndarray:
    """Return `(B, C, h, w)` as `(B, h * w, C)`."""
    return features.flatten(2).transpose(1, 2).contiguous().numpy()


def memory_bank(patches: np.ndarray) -> tuple[PatchScores, int]:
    """Score by the distance to the nearest of these patches; also return the bytes that are kept."""
    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(patches)
    return lambda found: _each(found, lambda flat: model.kneighbors(flat)[0][:, 0]), patches.nbytes


def feature_dictionary(patches: np.ndarray, words: int, explained: float, seed: int) -> tuple[PatchScores, int]:
    """Score by the distance to the nearest of `words` k-means centres, after a PCA that keeps a share of variance.

    A CNN feature dictionary (Napoletano et al. 2018), as Bergmann et al. 2020 compare with.
    """
    reduction = PCA(explained, svd_solver="full").fit(patches)
    nearest, kept = nearest_centre(reduction.transform(patches), words, seed)
    return lambda found: nearest(_each(found, reduction.transform)), kept + reduction.components_.nbytes


def nearest_centre(patches: np.ndarray, centres: int, seed: int) -> tuple[PatchScores, int]:
    """Score by the distance to the nearest of so many k-means centres, as Bergmann et al. 2020 compare with."""
    model = MiniBatchKMeans(centres, random_state=seed % 2**32, n_init=3).fit(patches)
    return lambda found: _each(found, lambda flat: model.transform(flat).min(axis=1)), model.cluster_centers_.nbytes


def one_class_svm(patches: np.ndarray, nu: float) -> tuple[PatchScores, int]:
    """Score by how far a patch lies outside of a one-class SVM with a Gaussian kernel, its width scikit-learn's."""
    model = OneClassSVM(nu=nu, gamma="scale").fit(patches)
    gamma = 1 / (patches.shape[1] * patches.var())

    def score(flat: np.ndarray) -> np.ndarray:
        # `decision_function` computes the same kernel one pair at a time: tens of times slower.
        return -(rbf_kernel(flat, model.support_vectors_, gamma) @ model.dual_coef_[0] + model.intercept_)

    return lambda found: _each(found, score), model.support_vectors_.nbytes


class PositionGaussian:
    """A Gaussian at each position, over a random choice of channels; scores are Mahalanobis distances.

    Fitted batch by batch. The covariance of few images is singular, so `ridge` is added to its diagonal (Defard et al.
    2021).
    """

    def __init__(self, channels: np.ndarray, ridge: float) -> None:
        self._channels, self._ridge = channels, ridge
        self._count, self._sum, self._outer = 0, 0.0, 0.0

    def update(self, patches: np.ndarray) -> None:
        """Take in images `(B, P, C)`."""
        chosen = patches[..., self._channels].astype(np.float64)
        self._count += len(chosen)
        self._sum = self._sum + chosen.sum(axis=0)
        self._outer = self._outer + np.einsum("bpc,bpd->pcd", chosen, chosen, optimize=True)

    def finish(self) -> tuple[PatchScores, int]:
        """Return what scores, and the bytes that are kept."""
        mean = self._sum / self._count
        covariance = (self._outer - self._count * mean[:, :, None] * mean[:, None, :]) / max(self._count - 1, 1)
        covariance += self._ridge * np.eye(len(self._channels))
        inverse = np.linalg.inv(covariance)

        def score(patches: np.ndarray) -> np.ndarray:
            offset = patches[..., self._channels] - mean
            return np.sqrt(np.einsum("bpc,pcd,bpd->bp", offset, inverse, offset, optimize=True).clip(0))

        return score, mean.nbytes + inverse.nbytes


def _each(patches: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    scores = score(patches.reshape(-1, patches.shape[-1]))
    return scores.reshape(*patches.shape[:2], *scores.shape[1:])
