"""Detectors of whole images, by scikit-learn and PyOD: images become vectors, and each gets one score."""

import logging
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from pyod.models.anogan import AnoGAN
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.gmm import GMM
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from pyod.models.vae import VAE
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.detectors.learnt import prefixed, without_prefix
from kdad.errors import InputError
from kdad.seeding import COMMON_GENERATOR, torch_stream

logging.getLogger("pyod").setLevel(logging.WARNING)

_OF_PYOD = {"kde": KDE, "gmm": GMM, "knn": KNN, "lof": LOF, "ocsvm": OCSVM, "anogan": AnoGAN}
_OF_SCIKIT_LEARN = {"kmeans": KMeans, "pca_reconstruction": PCA}
_SEEDED_OF_PYOD = {"auto_encoder": AutoEncoder, "vae": VAE}
_PYOD_BATCH = 32


class Representation:
    """Turns images into standardised vectors; what is fitted is fitted on training images.

    ``pixels``: shrunk to `side` x `side`, three channels. ``pca``: at most `components` principal components of those.
    ``source``: each critical point's activations, averaged over positions.
    """

    def __init__(self, kind: str, side: int, components: int) -> None:
        self.kind, self._side, self._components = kind, side, components
        self.arrays: dict[str, np.ndarray] = {}

    def raw(self, images: Tensor, outputs: list[Tensor]) -> np.ndarray:
        """Return what is seen of images `(B, 3, H, W)` and the source's outputs before anything is fitted."""
        if self.kind == "source":
            return np.concatenate([point.mean(dim=(2, 3)).cpu().numpy() for point in outputs], axis=1)
        small = interpolate(images, (self._side, self._side), mode="bilinear", antialias=True)
        return small.flatten(1).cpu().numpy()

    def fit(self, known: np.ndarray) -> np.ndarray:
        """Fit to the raw vectors `(N, D)` of training images, and return their final ones."""
        if self.kind == "pca":
            count = min(self._components, len(known) - 1, known.shape[1])
            basis = PCA(max(count, 1), random_state=0).fit(known)
            self.arrays = {"pca_mean": basis.mean_, "pca_components": basis.components_}
        projected = self._project(known)
        sd = projected.std(axis=0)
        self.arrays |= {"mean": projected.mean(axis=0), "sd": np.where(sd == 0, 1, sd).astype(projected.dtype)}
        return self(known)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return the final vectors of raw ones."""
        return (self._project(raw) - self.arrays["mean"]) / self.arrays["sd"]

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted."""
        return {name: torch.from_numpy(np.ascontiguousarray(found)) for name, found in self.arrays.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take what was fitted."""
        self.arrays = {name: found.numpy() for name, found in state.items()}

    def _project(self, raw: np.ndarray) -> np.ndarray:
        if self.kind != "pca":
            return raw
        return ((raw - self.arrays["pca_mean"]) @ self.arrays["pca_components"].T).astype(np.float32)


@dataclass(frozen=True)
class FittedDetector:
    """A fitted model of a library, which scores vectors `(M, D)` as `(M,)`."""

    name: str
    model: Any
    seed: int

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Score vectors `(M, D)`."""
        if self.name == "kmeans":
            return self.model.transform(vectors).min(axis=1)
        if self.name == "pca_reconstruction":
            return ((self.model.inverse_transform(self.model.transform(vectors)) - vectors) ** 2).mean(axis=1)
        if self.name == "vae":
            return np.array([self._score_seeded(vector) for vector in vectors])
        return self.model.decision_function(vectors)

    def _score_seeded(self, vector: np.ndarray) -> float:
        # PyOD's VAE samples its bottleneck when it scores, too: from the same draw, so that an image has one score.
        with torch_stream(self.seed):
            return self.model.decision_function(vector[None])[0]


def fit_detector(name: str, vectors: np.ndarray, options: dict[str, Any], seed: int) -> FittedDetector:
    """Fit a detector to normal images `(N, D)` and return what scores others.

    `options` go to the library's class. Raises `InputError` for one that it does not have.
    """
    with COMMON_GENERATOR:
        torch.manual_seed(seed)  # AnoGAN takes none
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what PyOD's detectors without a seed of their own draw from
        model = build_detector(name, vectors.shape, options, seed % 2**32)
        model.fit(vectors)
    return FittedDetector(name, model, seed)


def build_detector(name: str, shape: tuple[int, int], options: dict[str, Any], seed: int) -> Any:
    """Return the library's model for training vectors of `shape` (N, D), not fitted.

    Raises `InputError` for an option that its class does not have.
    """
    images, features = shape
    try:
        if name in _OF_SCIKIT_LEARN:
            return _OF_SCIKIT_LEARN[name](random_state=seed, **options)
        if name == "deep_svdd":
            return DeepSVDD(n_features=features, random_state=seed, verbose=0, **options)
        if name in _SEEDED_OF_PYOD:
            # PyOD leaves an incomplete batch out, so one larger than the data would leave nothing.
            batch = min(options.get("batch_size", _PYOD_BATCH), images)
            given = options | {"batch_size": batch}
            return _SEEDED_OF_PYOD[name](random_state=seed, verbose=0, device="cpu", **given)
        return _OF_PYOD[name](**options)
    except TypeError as error:
        raise InputError(f"{name} does not take these options ({error}); correct them") from None


#: What is kept of a fitted model by detector: NumPy attributes, and torch modules by attribute; nothing else scores.
#: Those that are not here are their training vectors, from which they are built again.
_KEPT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gmm": (
        ("detector_.weights_", "detector_.means_", "detector_.covariances_", "detector_.precisions_cholesky_"),
        (),
    ),
    "kmeans": (("cluster_centers_",), ()),
    "pca_reconstruction": (("components_", "mean_", "explained_variance_"), ()),
    "auto_encoder": (("X_mean", "X_std"), ("model",)),
    "vae": (("X_mean", "X_std"), ("model",)),
    "deep_svdd": (("c_",), ("model_",)),
    "anogan": ((), ("query_model",)),
}
_SCALER = ("scaler_.mean_", "scaler_.scale_")
#: Random vectors that a model is fitted to before its own state is put in: enough for its parts to be there.
_STAND_INS = 256
#: Options under which that is short, and possible however many components, clusters or features there are.
_SHORT = {
    "gmm": {"n_components": 1, "reg_covar": 1.0},
    "kmeans": {"n_clusters": 1},
    "pca_reconstruction": {"n_components": 1},
    "auto_encoder": {"epoch_num": 1},
    "vae": {"epoch_num": 1},
    "deep_svdd": {"epochs": 1},
    "anogan": {"epochs": 1, "epochs_query": 1},
}


def state_of_detector(fitted: FittedDetector, vectors: np.ndarray) -> dict[str, Tensor]:
    """Return what a detector fitted to `vectors` is known by, as tensors."""
    if fitted.name not in _KEPT:
        return {"vectors": torch.from_numpy(np.ascontiguousarray(vectors))}
    arrays = {name: attrgetter(name)(fitted.model) for name in _kept_arrays(fitted)}
    state = {
        name: value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        for name, value in arrays.items()
    }
    for name in _KEPT[fitted.name][1]:
        state |= prefixed(getattr(fitted.model, name).state_dict(), f"{name}.")
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def restore_detector(
    name: str, features: int, options: dict[str, Any], seed: int, state: dict[str, Tensor]
) -> FittedDetector:
    """Return the detector of vectors of so many `features` that `state_of_detector` returned the state of."""
    if name not in _KEPT:
        return fit_detector(name, state["vectors"].numpy(), options, seed)
    stand_ins = np.random.default_rng(0).normal(size=(_STAND_INS, features)).astype(np.float32)
    fitted = fit_detector(name, stand_ins, options | _SHORT.get(name, {}), seed)
    for attribute in _kept_arrays(fitted):
        holder, _, last = attribute.rpartition(".")
        owner = attrgetter(holder)(fitted.model) if holder else fitted.model
        is_tensor = isinstance(getattr(owner, last), Tensor)
        setattr(owner, last, state[attribute] if is_tensor else state[attribute].numpy())
    for attribute in _KEPT[name][1]:
        getattr(fitted.model, attribute).load_state_dict(without_prefix(state, f"{attribute}."))
    return fitted


def _kept_arrays(fitted: FittedDetector) -> list[str]:
    """Return the names of the arrays that a model has, with those of a scaler of its own."""
    names = _KEPT[fitted.name][0] + (_SCALER if hasattr(fitted.model, "scaler_") else ())
    return [name for name in names if attrgetter(name)(fitted.model) is not None]
