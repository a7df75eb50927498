"""Nodes of the pipeline `features`."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdad.compute import Compute, prepare_compute
from kdad.features.activations import cache_activations, prepare_source, select_activations
from kdad.features.cache import ActivationCache
from kdad.images.one_class import EveryClass
from kdad.images.registry import open_image_set
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
    settings = SourceParameters(**source)
    network = prepare_source(settings, image_statistics)
    images = open_image_set(DatasetParameters(**dataset))
    cache, reused = cache_activations(
        folder, network, settings, images, split_table, FeatureParameters(**features), chosen
    )
    return cache, _cost(started, len(split_table), reused, chosen)


def compute_every_class(
    folder: Path, dataset: dict[str, Any], source: dict[str, Any], features: dict[str, Any], compute: dict[str, Any]
) -> ActivationCache:
    """Run the source once over all images of a labelled set, for whichever class is then normal."""
    chosen = prepare_compute(ComputeParameters(**compute))
    images = EveryClass(open_image_set(DatasetParameters(**dataset)))
    settings = SourceParameters(**source)
    network = prepare_source(settings, {})
    cache, _ = cache_activations(
        folder, network, settings, images, images.table(), FeatureParameters(**features), chosen
    )
    return cache


def select_class_activations(
    split_table: pd.DataFrame,
    every_class: ActivationCache,
    folder: Path,
    dataset: dict[str, Any],
    source: dict[str, Any],
    features: dict[str, Any],
    compute: dict[str, Any],
) -> tuple[ActivationCache, dict[str, Any]]:
    """Pick one normal class's images out of all classes' activations, with scales of its own."""
    started = time.perf_counter()
    chosen = prepare_compute(ComputeParameters(**compute))
    images, settings = open_image_set(DatasetParameters(**dataset)), SourceParameters(**source)
    rows = EveryClass(images).rows_of(split_table)
    network, scaling = prepare_source(settings, {}), FeatureParameters(**features)
    cache, reused = select_activations(
        folder, every_class, network, settings, images, split_table, rows, scaling, chosen
    )
    return cache, _cost(started, 0, reused, chosen)


def _cost(started: float, images: int, reused: bool, compute: Compute) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - started, "images": images, "reused": reused, **compute.describe()}
