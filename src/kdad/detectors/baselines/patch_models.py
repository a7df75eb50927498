"""Models of patches on the source's activations: each position gets a score, so that they map."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.svm import OneClassSVM
from torch import Tensor, cat
from torch.nn import functional as F

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
    return cat([F.interpolate(point, grid, mode="bilinear", align_corners=False) for point in found], dim=1)


def patches_of(features: Tensor) -> Tensor:
    """Return `(B, C, h, w)` as `(B, h * w, C)`."""
    return features.flatten(2).mT


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
    """Arrays that were fitted, and how they score patches.

    Libraries fit, in their own precision; torch scores, in float32, by the tensors that `prepare` makes of the arrays.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.tensors: dict[str, Tensor] = {}

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        """Take what was fitted, and make of it what scoring takes; floating-point numbers become float32."""
        self.arrays = arrays
        self.tensors = {
            name: torch.from_numpy(np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else None))
            for name, values in self.prepare().items()
        }

    @property
    def lowest(self) -> float:
        """What no score is below: 0 of distances."""
        return 0.0

    @abstractmethod
    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
        """Fit to the patches of so many training images."""

    @abstractmethod
    def score(self, patches: Tensor) -> Tensor:
        """Return how anomalous patches `(B, P, C)` are, `(B, P)`."""

    @abstractmethod
    def prepare(self) -> dict[str, np.ndarray]:
        """Return what scoring takes, made of the arrays."""

    def prepared(self, device: torch.device, *names: str) -> list[Tensor]:
        """Return some of what `prepare` gives, on a device."""
        return [self.tensors[name].to(device) for name in names]

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted."""
        return {name: torch.from_numpy(np.ascontiguousarray(found)) for name, found in self.arrays.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take what was fitted."""
        self.take({name: values.numpy() for name, values in state.items()})


class SampledModel(PatchModel):
    """A model of patches sampled from all training images, each scored alone by its distances from some others."""

    others: ClassVar[str] = "centres"  # the name of their array `(N, C)`

    def __init__(self, options: MapOptions) -> None:
        super().__init__()
        self.options = options

    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
        self.take(self.fit_patches(sample_patches(passes(), images, self.options.patches, generator), seed))

    def score(self, patches: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # of any number of images
            return self.score_patches(patches)
        # The distances of one image's patches from all others may take a hundred megabytes.
        return torch.cat([self.score_patches(of_image) for of_image in patches.split(1)])

    @abstractmethod
    def fit_patches(self, patches: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return what is fitted to patches `(N, C)`."""

    @abstractmethod
    def score_patches(self, patches: Tensor) -> Tensor:
        """Score patches `(B, P, C)` as `(B, P)`."""

    def prepare(self) -> dict[str, np.ndarray]:
        """Return the others' mean, the others less it, and minus half of their squared lengths.

        So the differences of large squares cost no digits.
        """
        others = self.arrays[self.others]
        mean = others.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved = others.astype(np.float32) - mean  # as patches are
        return {"mean": mean, "moved": moved, "halves": -np.square(moved.astype(np.float64)).sum(axis=1) / 2}

    def compare(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return (|p|^2 - |p - q|^2) / 2 of patches p and others q, both less the mean, `(B, P, N)`; and p."""
        mean, moved, halves = self.prepared(patches.device, "mean", "moved", "halves")
        patches = patches - mean
        return F.linear(patches, moved, halves), patches


class NearestModel(SampledModel):
    """The distance to the nearest of the others."""

    def score_patches(self, patches: Tensor) -> Tensor:
        similarities, moved = self.compare(patches)
        nearest = self.prepared(patches.device, "moved")[0][similarities.argmax(2)]
        # Measured again: out of products, the distance of what is the same would not be 0.
        return (moved - nearest).square().sum(2).sqrt()


class MemoryBank(NearestModel):
    """The distance to the nearest of these patches."""

    others = "patches"

    def fit_patches(self, patches: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return {"patches": patches}


class NearestCentre(NearestModel):
    """The distance to the nearest of some k-means centres, as Bergmann et al. 2020 compare with."""

    def fit_patches(self, patches: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return {"centres": _centres(patches, self.options.centres, seed)}


class FeatureDictionary(NearestModel):
    """The distance to the nearest of k-means centres ("words"), after a PCA that keeps a share of variance.

    A CNN feature dictionary (Napoletano et al. 2018), as Bergmann et al. 2020 compare with.
    """

    def fit_patches(self, patches: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        reduction = PCA(self.options.explained, svd_solver="full").fit(patches)
        centres = _centres((patches - reduction.mean_) @ reduction.components_.T, self.options.words, seed)
        return {"mean": reduction.mean_, "components": reduction.components_, "centres": centres}

    def prepare(self) -> dict[str, np.ndarray]:
        """Return the PCA beside the words."""
        return super().prepare() | {"origin": self.arrays["mean"], "components": self.arrays["components"]}

    def score_patches(self, patches: Tensor) -> Tensor:
        origin, components = self.prepared(patches.device, "origin", "components")
        return super().score_patches((patches - origin) @ components.T)


class PatchSvm(SampledModel):
    """How far a patch lies outside of a one-class SVM with a Gaussian kernel, its width scikit-learn's."""

    others = "support_vectors"

    def fit_patches(self, patches: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        model = OneClassSVM(nu=self.options.nu, gamma="scale").fit(patches)
        return {
            "support_vectors": model.support_vectors_,
            "weights": model.dual_coef_[0],
            "intercept": model.intercept_,
            "gamma": np.array([1 / (patches.shape[1] * patches.var())]),
        }

    @property
    def lowest(self) -> float:
        """The score of a patch that all support vectors equal, whose kernels are all 1."""
        return -(self.arrays["weights"].sum() + self.arrays["intercept"]).item()

    def prepare(self) -> dict[str, np.ndarray]:
        """Return the weights too, negative: OpenVINO cannot open a vector's product that is negated afterwards."""
        return super().prepare() | {"weights": -self.arrays["weights"]}

    def score_patches(self, patches: Tensor) -> Tensor:
        similarities, moved = self.compare(patches)
        squares = (moved.square().sum(2, keepdim=True) - 2 * similarities).clamp_min(0)
        kernel = (squares * -self.arrays["gamma"].item()).exp()
        return kernel @ self.prepared(patches.device, "weights")[0] - self.arrays["intercept"].item()


class PositionGaussian(PatchModel):
    """A Gaussian at each position, over a random choice of channels; scores are Mahalanobis distances.

    Fitted batch by batch. The covariance of few images is singular, so `ridge` is added to its diagonal (Defard et al.
    2021).
    """

    def __init__(self, options: PositionGaussianOptions) -> None:
        super().__init__()
        self._options = options

    def fit(self, passes: Passes, images: int, generator: np.random.Generator, seed: int) -> None:
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
        self.take({"channels": channels, "mean": mean, "inverse": np.linalg.inv(covariance)})

    def prepare(self) -> dict[str, np.ndarray]:
        """Return a factor F of each inverse, F F^T: of it, squares add up without cancelling."""
        kept = {name: self.arrays[name] for name in ("channels", "mean")}
        return kept | {"factor": np.linalg.cholesky(self.arrays["inverse"])}

    def score(self, patches: Tensor) -> Tensor:
        channels, mean, factor = self.prepared(patches.device, "channels", "mean", "factor")
        offset = patches[..., channels] - mean
        return (offset.transpose(0, 1) @ factor).square().sum(2).sqrt().T  # a product of (B, c) and (c, c) a position


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
