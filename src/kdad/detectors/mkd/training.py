"""Training the cloner against cached source activations."""

import numpy as np
import pandas as pd
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.mkd.cloner import build_cloner
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, ClonerParameters
from kdad.features.cache import ActivationCache
from kdad.networks.point_choice import choose_points
from kdad.seeding import torch_seed
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train


def build_cloner_for(cache: ActivationCache, architecture: ArchitectureParameters) -> nn.Module:
    """Build an untrained cloner for the activations of a cache."""
    mean, sd = cache.manifest["input_normalisation"]
    return build_cloner(architecture, cache.manifest["source"], cache.critical_points, cache.size, (mean, sd))


def train_cloner_on_cache(
    cache: ActivationCache,
    split_table: pd.DataFrame,
    parameters: ClonerParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a cloner on the rows of split ``train``, validate it on ``validation``; return it with its loss history.

    No image is augmented, so the source's activations are constants and the cache is exact.
    """
    positions = choose_points(parameters.training_points, cache.names, "cloner.training_points")
    with torch_seed(seed, "cloner", "initialisation"):
        cloner = compute.place(build_cloner_for(cache, parameters.architecture))

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        source = [compute.move(activation) for activation in cache.activations(rows)]
        with compute.autocast():
            found = cloner(compute.move(cache.images(rows)))
        return discrepancy_terms([source[i] for i in positions], [found[i] for i in positions], parameters.loss)

    rows = {split: np.flatnonzero(split_table["split"] == split) for split in ("train", "validation")}
    task = TrainingTask("cloner", cloner, loss, rows["train"], rows["validation"])
    return cloner, train(task, parameters.training, seed, checkpoint)
