"""The source's activations of an image set, through the cache."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.features.cache import ActivationCache, find_cache, write_cache, write_selection
from kdad.images.image_set import ImageSet
from kdad.images.statistics import ChannelStatistics
from kdad.networks.source import Source
from kdad.networks.weights import fingerprint_weights, load_source
from kdad.parameters.source import FeatureParameters, SourceParameters


def prepare_source(parameters: SourceParameters, image_statistics: dict[str, list[float]]) -> Source:
    """Load the source with its selected critical points and input normalisation.

    `image_statistics` holds ``mean`` and ``sd`` of the training images, three values each. Raises `InputError` when
    they are to be used and a channel is constant.
    """
    source = load_source(parameters.name, parameters.weights)
    if parameters.critical_points is not None:
        source.select(parameters.critical_points)
    if parameters.input_normalisation == "dataset":
        if 0 in image_statistics["sd"]:
            raise InputError(
                "the training images are constant in a channel; set source.input_normalisation to 'source'"
            )
        source.normalise_with(image_statistics["mean"], image_statistics["sd"])
    elif parameters.input_normalisation == "none":
        source.normalise_with([0.0] * 3, [1.0] * 3)
    return source


def cache_activations(
    folder: Path,
    source: Source,
    parameters: SourceParameters,
    images: ImageSet,
    split_table: pd.DataFrame,
    features: FeatureParameters,
    compute: Compute,
) -> tuple[ActivationCache, bool]:
    """Return the cache of every image in `split_table`, in its order, and whether it was reused.

    Each critical point's scale is the standard deviation of its activations over the training images.
    """
    points = source.describe(images.size)
    wanted = _describe(source, parameters, images, split_table, features, compute)
    found = find_cache(folder, wanted)
    if found is not None:
        return found, True
    finish: dict[str, Any] = {}
    batches = _run(source, images, split_table, features, compute, finish)
    return write_cache(folder, wanted, points, len(split_table), batches, finish), False


def select_activations(
    folder: Path,
    whole: ActivationCache,
    source: Source,
    parameters: SourceParameters,
    images: ImageSet,
    split_table: pd.DataFrame,
    rows: np.ndarray,
    features: FeatureParameters,
    compute: Compute,
) -> tuple[ActivationCache, bool]:
    """Return the cache of `split_table`'s images as `rows` of a `whole` cache, and whether it was reused.

    The scales are those of these images' training part, as if the source had run on them alone.
    """
    wanted = _describe(source, parameters, images, split_table, features, compute)
    found = find_cache(folder, wanted)
    if found is not None:
        return found, True
    training = rows[(split_table["split"] == "train").to_numpy()]
    statistics = [ChannelStatistics() for _ in whole.arrays]
    for start in range(0, len(training), features.batch_size):
        for measured, activation in zip(
            statistics, whole.activations(training[start : start + features.batch_size]), strict=True
        ):
            measured.update(activation.numpy())
    # What the whole cache hands out is divided by scales of its own.
    scales = [own * earlier for own, earlier in zip(_scales(statistics, features), whole.scales, strict=True)]
    return write_selection(folder, whole, rows, {**wanted, "scales": scales}), False


def _describe(
    source: Source,
    parameters: SourceParameters,
    images: ImageSet,
    split_table: pd.DataFrame,
    features: FeatureParameters,
    compute: Compute,
) -> dict[str, Any]:
    """Return what a manifest must say for its activations to be these."""
    return {
        "source": parameters.name,
        "weights": fingerprint_weights(source),
        "critical_points": list(source.critical_points),
        "input_normalisation": [source.mean.flatten().tolist(), source.sd.flatten().tolist()],
        "images": _digest(split_table["id"], split_table["fingerprint"]),
        "training_images": _digest(split_table.loc[split_table["split"] == "train", "id"]),
        "image_size": list(images.size),
        "activation_scaling": features.activation_scaling,
        **compute.describe(),
    }


@torch.no_grad()
def _run(
    source: Source,
    images: ImageSet,
    split_table: pd.DataFrame,
    features: FeatureParameters,
    compute: Compute,
    finish: dict[str, Any],
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    compute.place(source)
    training = (split_table["split"] == "train").to_numpy()
    statistics = [ChannelStatistics() for _ in source.critical_points]
    starts = range(0, len(split_table), features.batch_size)
    for start in track(starts, description="Source activations", transient=True):
        rows = np.arange(start, min(start + features.batch_size, len(split_table)))
        batch = np.stack([images.image(row) for row in rows])
        with compute.autocast():
            activations = [activation.float() for activation in source(compute.move(torch.from_numpy(batch)))]
        if training[rows].any():
            for measured, activation in zip(statistics, activations, strict=True):
                measured.update(activation[torch.from_numpy(training[rows])].cpu().numpy())
        yield batch, activations
    finish["scales"] = _scales(statistics, features)


def _scales(statistics: list[ChannelStatistics], features: FeatureParameters) -> list[float]:
    per_point = features.activation_scaling == "per_point"
    return [_overall_sd(measured) if per_point else 1.0 for measured in statistics]


def _overall_sd(measured: ChannelStatistics) -> float:
    """Return the standard deviation over all channels together, or 1 for a point that is constant."""
    variance = np.mean(measured.sd**2) + np.var(measured.mean)
    return float(np.sqrt(variance)) or 1.0


def _digest(*columns: pd.Series) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update("\n".join(column.astype(str)).encode())
    return digest.hexdigest()[:16]
