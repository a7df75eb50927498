"""Nodes of the pipeline `cloner`."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.compute import prepare_compute
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.detectors.mkd.training import train_cloner_on_cache
from kdad.features.cache import ActivationCache
from kdad.networks.weights_file import NetworkWeights
from kdad.parameters.source import ComputeParameters
from kdad.training.checkpoints import CheckpointFile


def train_cloner(
    split_table: pd.DataFrame,
    source_activations: ActivationCache,
    checkpoint_folder: Path,
    compute: dict[str, Any],
    cloner: dict[str, Any],
    seed: int,
) -> tuple[NetworkWeights, pd.DataFrame, dict[str, Any]]:
    """Train the cloner on the training images; return its weights, its loss history and what it cost."""
    started = time.perf_counter()
    chosen = prepare_compute(ComputeParameters(**compute))
    settings = {"activations": source_activations.manifest, "cloner": cloner, "seed": seed}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    checkpoint = CheckpointFile(checkpoint_folder / "cloner.checkpoint", key)
    network, history = train_cloner_on_cache(
        source_activations,
        split_table,
        ClonerParameters(**cloner),
        chosen,
        seed,
        checkpoint,
    )
    weights = NetworkWeights(network.state_dict(), {"key": key, "points": ",".join(source_activations.names)})
    checkpoint.clear()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return weights, history, {"seconds": time.perf_counter() - started, "parameters": parameters}
