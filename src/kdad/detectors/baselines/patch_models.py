"""Models of patches on the source's activations: each position gets a score, so that they map."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM
from torch import Tensor, cat
from torch.nn.functional import interpolate

from kdad.detectors.baselines.parameters import (
    FeatureDictionaryOptions,
    MapOptions,
    MemoryBankOptions,
    NearestCentreOptions,
    PositionGaussianOptions,
)

#: Patches `(B, P, C)` of training images, batch by batch; called again for another pass.
Passes = Callable[[], Iterator[np.ndarray]]


def side_by_side(outputs: list[Tensor], chosen: list[int]) -> Tensor:
    """Return the chosen outputs side by side `(B, C, h, w)`, on the grid of the finest of them."""
    found = [outputs[position] for position in chosen]
    grid = max((point.shape[-2:] for point in found), key=lambda size: size[0] * size[1])
    return cat([interpolate(point, grid, mode="bilinear", align_corners=False) for point in found], dim=1)


def patches_of(features: Tensor) -> np.ndarray:
    """Return `(B, C, h, w)` as `(B, h * w, C)`."""
    return features.flatten(2).transpose(1, 2).contiguous().cpu().numpy()


def sample_patches(
    batches: Iterator[np.ndarray], images: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Return about `count` patches `(N, C)`, equally many from each of the images, drawn without repeats."""
    kept = []
    for batch in batches:
        share = min(max(-(-count // images), 1), batch.shape[1])
        drawn = generator.permuted(np.broadcast_to(np.arange(batch.shape[1]), batch.shape[:2]), axis=1)[:, :share]
        kept.append(np.take_along_axis(batch, drawn[..., None], axis=1).reshape(-1, batch.shape[2]))
    return np.concatenate(kept)


class PatchModel(ABC):
    """Arrays that were fitted, and how they score patches `(B, P, C)` as `(B, P)`."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    @property
    def lowest(self) -> float:
        """What no score is below: 0 of distances."""
        return 0.0

    @abstractmethod
    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
        """Fit to the patches of so many training images."""

    @abstractmethod
    def score(self, patches: np.ndarray) -> np.ndarray:
        """Return how anomalous patches `(B, P, C)` are, `(B, P)`."""

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted."""
        return {name: torch.from_numpy(np.ascontiguousarray(found)) for name, found in self.arrays.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take what was fitted."""
        self.arrays = {name: found.numpy() for name, found in state.items()}


class SampledModel(PatchModel):
    """A model of patches sampled from all training images, each scored alone."""

    def __init__(self, options: MapOptions) -> None:
        super().__init__()
        self.options = options

    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
        """Sample patches and fit to them."""
        self.fit_patches(sample_patches(passes(), images, self.options.patches, generator), seed)

    def score(self, patches: np.ndarray) -> np.ndarray:
        """Score every patch alone."""
        return self.score_patches(patches.reshape(-1, patches.shape[-1])).reshape(patches.shape[:2])

    @abstractmethod
    def fit_patches(self, patches: np.ndarray, seed: int) -> None:
        """Fit to patches `(N, C)`."""

    @abstractmethod
    def score_patches(self, patches: np.ndarray) -> np.ndarray:
        """Score patches `(N, C)` as `(N,)`."""


class MemoryBank(SampledModel):
    """The distance to the nearest of these patches."""

    def fit_patches(self, patches: np.ndarray, seed: int) -> None:
        """Keep the patches."""
        self.arrays = {"patches": patches}

    def score_patches(self, patches: np.ndarray) -> np.ndarray:
        """Return the distance to the nearest."""
        model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.arrays["patches"])
        return model.kneighbors(patches)[0][:, 0]


class NearestCentre(SampledModel):
    """The distance to the nearest of some k-means centres, as Bergmann et al. 2020 compare with."""

    def fit_patches(self, patches: np.ndarray, seed: int) -> None:
        """Cluster the patches."""
        self.arrays |= {"centres": _centres(patches, self.options.centres, seed)}

    def score_patches(self, patches: np.ndarray) -> np.ndarray:
        """Return the distance to the nearest centre."""
        return euclidean_distances(patches, self.arrays["centres"]).min(axis=1)


class FeatureDictionary(SampledModel):
    """The distance to the nearest of k-means centres ("words"), after a PCA that keeps a share of variance.

    A CNN feature dictionary (Napoletano et al. 2018), as Bergmann et al. 2020 compare with.
    """

    def fit_patches(self, patches: np.ndarray, seed: int) -> None:
        """Reduce the patches, then cluster them."""
        reduction = PCA(self.options.explained, svd_solver="full").fit(patches)
        self.arrays = {"mean": reduction.mean_, "components": reduction.components_}
        self.arrays["centres"] = _centres(self._reduce(patches), self.options.words, seed)

    def score_patches(self, patches: np.ndarray) -> np.ndarray:
        """Return the distance of the reduced patches to the nearest word."""
        return euclidean_distances(self._reduce(patches), self.arrays["centres"]).min(axis=1)

    def _reduce(self, patches: np.ndarray) -> np.ndarray:
        return (patches - self.arrays["mean"]) @ self.arrays["components"].T


class PatchSvm(SampledModel):
    """How far a patch lies outside of a one-class SVM with a Gaussian kernel, its width scikit-learn's."""

    def fit_patches(self, patches: np.ndarray, seed: int) -> None:
        """Find the support vectors."""
        model = OneClassSVM(nu=self.options.nu, gamma="scale").fit(patches)
        self.arrays = {
            "support_vectors": model.support_vectors_,
            "weights": model.dual_coef_[0],
            "intercept": model.intercept_,
            "gamma": np.array([1 / (patches.shape[1] * patches.var())]),
        }

    @property
    def lowest(self) -> float:
        """The score of a patch that all support vectors equal, whose kernels are all 1."""
        return -(self.arrays["weights"].sum() + self.arrays["intercept"]).item()

    def score_patches(self, patches: np.ndarray) -> np.ndarray:
        """Return the negative decision function."""
        # `decision_function` computes the same kernel one pair at a time: tens of times slower.
        found = self.arrays
        kernel = rbf_kernel(patches, found["support_vectors"], found["gamma"].item())
        return -(kernel @ found["weights"] + found["intercept"])


class PositionGaussian(PatchModel):
    """A Gaussian at each position, over a random choice of channels; scores are Mahalanobis distances.

    Fitted batch by batch. The covariance of few images is singular, so `ridge` is added to its diagonal (Defard et al.
    2021).
    """

    def __init__(self, options: PositionGaussianOptions) -> None:
        super().__init__()
        self._options = options

    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
        """Measure mean and covariance at each position."""
        count, total, outer = 0, 0.0, 0.0
        channels = None
        for patches in passes():
            if channels is None:
                channels = np.sort(generator.permutation(patches.shape[-1])[: self._options.channels])
            chosen = patches[..., channels].astype(np.float64)
            count += len(chosen)
            total = total + chosen.sum(axis=0)
            outer = outer + np.einsum("bpc,bpd->pcd", chosen, chosen, optimize=True)
        mean = total / count
        covariance = (outer - count * mean[:, :, None] * mean[:, None, :]) / max(count - 1, 1)
        covariance += self._options.ridge * np.eye(len(channels))
        self.arrays = {"channels": channels, "mean": mean, "inverse": np.linalg.inv(covariance)}

    def score(self, patches: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance at each position."""
        offset = patches[..., self.arrays["channels"]] - self.arrays["mean"]
        return np.sqrt(np.einsum("bpc,pcd,bpd->bp", offset, self.arrays["inverse"], offset, optimize=True).clip(0))


def new_patch_model(options: MapOptions) -> PatchModel:
    """Return the model that these options are of, not fitted."""
    models = {
        MemoryBankOptions: MemoryBank,
        PositionGaussianOptions: PositionGaussian,
        FeatureDictionaryOptions: FeatureDictionary,
        NearestCentreOptions: NearestCentre,
    }
    return models.get(type(options), PatchSvm)(options)


def _centres(patches: np.ndarray, count: int, seed: int) -> np.ndarray:
    return MiniBatchKMeans(count, random_state=seed % 2**32, n_init=3).fit(patches).cluster_centers_
