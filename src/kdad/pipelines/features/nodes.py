"""Nodes of the pipeline `features`."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.compute import prepare_compute
from kdad.datasets.activation_cache import ActivationCache
from kdad.images.registry import open_image_set
from kdad.networks.activations import cache_activations, prepare_source
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters, FeatureParameters, SourceParameters


def compute_source_activations(
    split_table: pd.DataFrame,
    image_statistics: dict[str, list[float]],
    folder: Path,
    dataset: dict[str, Any],
    source: dict[str, Any],
    features: dict[str, Any],
    compute: dict[str, Any],
) -> tuple[ActivationCache, dict[str, Any]]:
    """Run the source once over every image, or open the cache when it holds just these activations."""
    started = time.perf_counter()
    chosen = prepare_compute(ComputeParameters(**compute))
    network = prepare_source(SourceParameters(**source), image_statistics)
    images = open_image_set(DatasetParameters(**dataset))
    cache, reused = cache_activations(
        folder, network, SourceParameters(**source), images, split_table, FeatureParameters(**features), chosen
    )
    cost = {"seconds": time.perf_counter() - started, "images": len(split_table), "reused": reused, **chosen.describe()}
    return cache, cost
