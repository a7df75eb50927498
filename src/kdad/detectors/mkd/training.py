"""Training the cloner against the source's activations of normal images."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.features.extraction import FeatureSet
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train

if TYPE_CHECKING:
    import pandas as pd


def train_cloner(
    cloner: nn.Module,
    feature_set: FeatureSet,
    scales: list[float],
    positions: list[int],
    parameters: ClonerParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> "pd.DataFrame":
    """Train `cloner` in place on the training images, validate it on validation ones; return the loss history.

    Activations are divided by `scales`; the critical points at `positions` are in the loss. No image is augmented, so
    the source's activations are constants and the cache is exact.
    """
    cache = feature_set.features["source"]
    clone = compute.compiled(cloner)

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        source = [compute.move(found / scale) for found, scale in zip(cache.outputs(rows), scales, strict=True)]
        with compute.autocast():
            cloned = clone(compute.move(cache.images(rows)))
        return discrepancy_terms([source[i] for i in positions], [cloned[i] for i in positions], parameters.loss)

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    metric = "cloner.{split}.{term}"
    task = TrainingTask("cloner", cloner, loss, *parts, names=feature_set.split.name, metric=metric)
    return train(task, parameters.training, seed, checkpoint)
