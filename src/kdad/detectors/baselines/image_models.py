"""Detectors of whole images, by scikit-learn and PyOD: vectors in, one score an image out, larger is more anomalous."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
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

from kdad.errors import InputError
from kdad.seeding import COMMON_GENERATOR, torch_stream

logging.getLogger("pyod").setLevel(logging.WARNING)
Scores = Callable[[np.ndarray], np.ndarray]

_OF_PYOD = {"kde": KDE, "gmm": GMM, "knn": KNN, "lof": LOF, "ocsvm": OCSVM, "anogan": AnoGAN}
_OF_SCIKIT_LEARN = {"kmeans": KMeans, "pca_reconstruction": PCA}
_SEEDED_OF_PYOD = {"auto_encoder": AutoEncoder, "vae": VAE}
_PYOD_BATCH = 32


@dataclass(frozen=True)
class FittedDetector:
    """A fitted model of a library, and how it scores `(M, D)` as `(M,)`."""

    name: str
    model: Any
    score: Scores

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Score vectors `(M, D)`."""
        return self.score(vectors)


def fit_detector(name: str, vectors: np.ndarray, options: dict[str, Any], seed: int) -> FittedDetector:
    """Fit a detector to normal images `(N, D)` and return what scores others.

    `options` go to the library's class. Raises `InputError` for one that it does not have.
    """
    with COMMON_GENERATOR:
        torch.manual_seed(seed)  # AnoGAN takes none
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what PyOD's detectors without a seed of their own draw from
        model = build_detector(name, vectors.shape, options, seed % 2**32)
        model.fit(vectors)
    if name == "kmeans":
        return FittedDetector(name, model, lambda others: model.transform(others).min(axis=1))
    if name == "pca_reconstruction":
        return FittedDetector(
            name, model, lambda others: ((model.inverse_transform(model.transform(others)) - others) ** 2).mean(axis=1)
        )
    if name == "vae":
        return FittedDetector(name, model, lambda others: _score_seeded(model, others, seed))
    return FittedDetector(name, model, model.decision_function)


def _score_seeded(model: VAE, vectors: np.ndarray, seed: int) -> np.ndarray:
    """Score vectors one by one from the same draw: PyOD's VAE samples its bottleneck when it scores, too.

    So an image has one score, whichever images are scored beside it.
    """
    found = []
    for vector in vectors:
        with torch_stream(seed):
            found.append(model.decision_function(vector[None])[0])
    return np.array(found)


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


@dataclass(frozen=True)
class _Kept:
    """What of a fitted model is kept: NumPy attributes, and torch modules by attribute; nothing else scores."""

    arrays: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def present(self, model: Any) -> list[str]:
        """The arrays that a model has, with those of a scaler of its own."""
        names = self.arrays + (_SCALER if hasattr(model, "scaler_") else ())
        return [name for name in names if _get(model, name) is not None]


#: By detector; those that are not here are their training vectors, from which they are built again.
_KEPT = {
    "gmm": _Kept(
        ("detector_.weights_", "detector_.means_", "detector_.covariances_", "detector_.precisions_cholesky_")
    ),
    "kmeans": _Kept(("cluster_centers_",)),
    "pca_reconstruction": _Kept(("components_", "mean_", "explained_variance_")),
    "auto_encoder": _Kept(("X_mean", "X_std"), ("model",)),
    "vae": _Kept(("X_mean", "X_std"), ("model",)),
    "deep_svdd": _Kept(("c_",), ("model_",)),
    "anogan": _Kept((), ("query_model",)),
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
    kept = _KEPT.get(fitted.name)
    if kept is None:
        return {"vectors": torch.from_numpy(np.ascontiguousarray(vectors))}
    state = {name: _as_tensor(_get(fitted.model, name)) for name in kept.present(fitted.model)}
    for name in kept.modules:
        state |= {f"{name}.{key}": value for key, value in getattr(fitted.model, name).state_dict().items()}
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def restore_detector(
    name: str, features: int, options: dict[str, Any], seed: int, state: dict[str, Tensor]
) -> FittedDetector:
    """Return the detector of vectors of so many `features` that `state_of_detector` returned the state of."""
    kept = _KEPT.get(name)
    if kept is None:
        return fit_detector(name, state["vectors"].numpy(), options, seed)
    stand_ins = np.random.default_rng(0).normal(size=(_STAND_INS, features)).astype(np.float32)
    fitted = fit_detector(name, stand_ins, options | _SHORT.get(name, {}), seed)
    for attribute in kept.present(fitted.model):
        older = _get(fitted.model, attribute)
        _set(fitted.model, attribute, state[attribute] if isinstance(older, Tensor) else state[attribute].numpy())
    for attribute in kept.modules:
        own = {
            key.removeprefix(f"{attribute}."): value for key, value in state.items() if key.startswith(f"{attribute}.")
        }
        getattr(fitted.model, attribute).load_state_dict(own)
    return fitted


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def _get(model: Any, name: str) -> Any:
    return reduce(getattr, name.split("."), model)


def _set(model: Any, name: str, value: Any) -> None:
    *path, last = name.split(".")
    setattr(reduce(getattr, path, model), last, value)
