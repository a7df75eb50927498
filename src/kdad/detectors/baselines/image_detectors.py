"""Detectors of whole images, by scikit-learn and PyOD: vectors in, one score an image out, larger is more anomalous."""

import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
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

from kdad.errors import InputError

logging.getLogger("pyod").setLevel(logging.WARNING)
Scores = Callable[[np.ndarray], np.ndarray]

_OF_PYOD = {"kde": KDE, "gmm": GMM, "knn": KNN, "lof": LOF, "ocsvm": OCSVM, "anogan": AnoGAN}
_OF_SCIKIT_LEARN = {"kmeans": KMeans, "pca_reconstruction": PCA}
_SEEDED_OF_PYOD = {"auto_encoder": AutoEncoder, "vae": VAE}
_PYOD_BATCH = 32


@dataclass(frozen=True)
class FittedDetector:
    """A fitted model of a library, and how it scores `(M, D)` as `(M,)`."""

    model: Any
    score: Scores

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Score vectors `(M, D)`."""
        return self.score(vectors)

    @property
    def kept_bytes(self) -> int:
        """The model's size as it would be stored."""
        return len(pickle.dumps(self.model))


def fit_detector(name: str, vectors: np.ndarray, options: dict[str, Any], seed: int) -> FittedDetector:
    """Fit a detector to normal images `(N, D)` and return what scores others.

    `options` go to the library's class. Raises `InputError` for one that it does not have.
    """
    torch.manual_seed(seed)  # AnoGAN takes none
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what PyOD's detectors without a seed of their own draw from
    model = build_detector(name, vectors.shape, options, seed % 2**32)
    model.fit(vectors)
    if name == "kmeans":
        return FittedDetector(model, lambda others: model.transform(others).min(axis=1))
    if name == "pca_reconstruction":
        return FittedDetector(
            model, lambda others: ((model.inverse_transform(model.transform(others)) - others) ** 2).mean(axis=1)
        )
    return FittedDetector(model, model.decision_function)


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
