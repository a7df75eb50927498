"""Images as vectors `(N, D)`: shrunk pixels, their principal components, the source's mean activations."""

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import interpolate


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
