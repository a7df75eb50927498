"""Training one cloner, or several, against the source's activations of normal images."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.ensemble import each_cloner
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.features.seen import SeenImages
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train


def train_cloner(
    cloner: nn.Module,
    seen: SeenImages,
    scales: list[float],
    positions: list[int],
    parameters: ClonerParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> pd.DataFrame:
    """Train `cloner` in place on the training images, validate it on held-out ones; return the loss history.

    Activations are divided by `scales`; the critical points at `positions` are in the loss. No image is augmented, so
    the source's activations are constants and the cache is exact. `Cloners` see the same batches, each read once, and
    the loss is the sum of theirs: none learns from another.
    """
    cache = seen.features["source"]
    clone = compute.compiled(partial(each_cloner, cloner))

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        source = [compute.move(found / scale) for found, scale in zip(cache.outputs(rows), scales, strict=True)]
        with compute.autocast():
            found = clone(compute.move(cache.images(rows)))
        chosen = [source[i] for i in positions]
        terms = [discrepancy_terms(chosen, [one[i] for i in positions], parameters.loss) for one in found]
        return {name: torch.stack([one[name] for one in terms]).sum(0) for name in terms[0]}

    parts = seen.split.rows("train"), seen.split.rows("validation")
    task = TrainingTask("cloner", cloner, loss, *parts, names=seen.split.name)
    return train(task, parameters.training, seed, checkpoint)
