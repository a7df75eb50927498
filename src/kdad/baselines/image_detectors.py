"""Detectors of whole images, by scikit-learn and PyOD: vectors in, one score an image out, larger is more anomalous."""

import logging
from collections.abc import Callable
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
_PYOD_BATCH = 32
_SEEDED_OF_PYOD = {"auto_encoder": AutoEncoder, "vae": VAE}


def fit_detector(name: str, vectors: np.ndarray, options: dict[str, Any], seed: int) -> Scores:
    """Fit a detector to normal images `(N, D)` and return what scores others `(M, D)` as `(M,)`.

    `options` go to the library's class. Raises `InputError` for one that it does not have.
    """
    torch.manual_seed(seed)  # AnoGAN takes none
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what PyOD's detectors without a seed of their own draw from
    try:
        if name == "kmeans":
            return _distance_to_centres(KMeans(random_state=seed % 2**32, **options), vectors)
        if name == "pca_reconstruction":
            return _reconstruction_error(PCA(random_state=seed % 2**32, **options), vectors)
        detector = _build(name, vectors.shape, options, seed % 2**32)
    except TypeError as error:
        raise InputError(
            f"baselines: {name} does not take these options ({error}); correct baselines.methods"
        ) from None
    detector.fit(vectors)
    return detector.decision_function


def _build(name: str, shape: tuple[int, int], options: dict[str, Any], seed: int) -> Any:
    if name == "deep_svdd":
        return DeepSVDD(n_features=shape[1], random_state=seed, verbose=0, **options)
    if name in _SEEDED_OF_PYOD:
        # PyOD leaves an incomplete batch out, so one larger than the data would leave nothing.
        options = {"batch_size": min(_PYOD_BATCH, shape[0])} | options
        return _SEEDED_OF_PYOD[name](random_state=seed, verbose=0, device="cpu", **options)
    return _OF_PYOD[name](**options)


def _distance_to_centres(model: KMeans, vectors: np.ndarray) -> Scores:
    model.fit(vectors)
    return lambda others: model.transform(others).min(axis=1)


def _reconstruction_error(model: PCA, vectors: np.ndarray) -> Scores:
    model.fit(vectors)
    return lambda others: ((model.inverse_transform(model.transform(others)) - others) ** 2).mean(axis=1)
