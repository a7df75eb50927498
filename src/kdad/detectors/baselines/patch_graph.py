"""Models of patches by torch alone, as parts of a graph: the scores that the fitted arrays give, in float32."""

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.baselines.patch_models import FeatureDictionary, PatchModel, PatchSvm, PositionGaussian


def score_positions(model: PatchModel, patches: Tensor) -> Tensor:
    """Return how anomalous patches `(B, P, C)` are, `(B, P)`, as `PatchModel.score` does."""
    found = model.arrays
    if isinstance(model, PositionGaussian):
        offset = patches[..., torch.from_numpy(found["channels"])] - _constant(found["mean"])
        # Of a factor F with F F^T the inverse, the squares add up without cancelling.
        factor = _constant(np.linalg.cholesky(found["inverse"]))  # (P, c, c)
        return (offset[:, :, None] @ factor)[:, :, 0].square().sum(2).sqrt()
    if isinstance(model, PatchSvm):
        squares = _squared_distances(patches, found["support_vectors"])
        kernel = (squares * -found["gamma"].item()).exp()
        return -(kernel @ _constant(found["weights"]) + float(found["intercept"].item()))
    if isinstance(model, FeatureDictionary):
        patches = (patches - _constant(found["mean"])) @ _constant(found["components"]).T
    return _squared_distances(patches, found["centres" if "centres" in found else "patches"]).amin(2).sqrt()


def _squared_distances(patches: Tensor, others: np.ndarray) -> Tensor:
    """Return the squared distances of patches `(B, P, C)` from others `(N, C)`, `(B, P, N)`.

    Both are moved by the others' mean first: the difference of large squares would cost digits.
    """
    middle = others.mean(axis=0, dtype=np.float64)
    moved = _constant(others - middle)
    patches = patches - _constant(middle)
    products = patches @ moved.T
    squares = patches.square().sum(2, keepdim=True) + moved.square().sum(1)
    return (squares - 2 * products).clamp_min(0)


def _constant(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
