"""Running a frozen network over an image set, once: source and teacher alike."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdad.features.cache import (
    FeatureCache,
    Storage,
    free_space,
    needed_bytes,
    open_cache,
    write_cache,
    write_selection,
    write_statistics,
)
from kdad.features.network import FrozenNetwork
from kdad.images.image_set import ChannelStatistics, ImageSet
from kdad.images.one_class import EveryClass
from kdad.images.splits import Split
from kdad.progress import counted
from kdad.storage.content_store import ContentStore, content_key

logger = logging.getLogger(__name__)
_SELECTION_BATCH = 64


@dataclass(frozen=True)
class FeatureSet:
    """An image set with its split, and what frozen networks gave for it, by their names."""

    images: ImageSet
    split: Split
    features: dict[str, FeatureCache]

    def batch(self, rows: np.ndarray) -> Tensor:
        """Return images `(B, 3, H, W)` in [0, 1], from a cache where one holds them."""
        cache = next((cache for cache in self.features.values() if cache.kept), None)
        return read_images(self.images, rows) if cache is None else cache.images(rows)

    def outputs(self, rows: np.ndarray) -> dict[str, list[Tensor]] | None:
        """Return each network's outputs of these rows; None when one did not keep them."""
        if not all(cache.kept for cache in self.features.values()):
            return None
        return {name: cache.outputs(rows) for name, cache in self.features.items()}


@dataclass(frozen=True)
class ExtractionOptions:
    """How a network runs over images: how many at once, and whether its outputs are kept.

    `keep` None keeps them where they fit into half of what the disk has left; `storage` says in which formats.
    """

    batch_size: int
    keep: bool | None = True
    storage: Storage = field(default_factory=Storage)


def read_images(images: ImageSet, rows: np.ndarray) -> Tensor:
    """Return images `(B, 3, H, W)`, decoded now."""
    return torch.from_numpy(np.stack(list(images.images_of(rows, len(rows)))))


def obtain_features(
    store: ContentStore,
    network: FrozenNetwork,
    images: ImageSet,
    split: Split,
    options: ExtractionOptions,
    shares_classes: bool = False,
) -> FeatureCache:
    """Run a network once over every image of `split`, in its order, or open what an earlier run has kept.

    Mean and standard deviation of each channel are streamed over the training images. Where outputs are kept, the
    network runs once for all splits that leave other training images unused, and with `shares_classes` once for all
    classes of a labelled set.
    """
    wanted = _describe(network, images, split.images_digest, split.training_digest, options)
    if options.keep is not False and shares_classes:
        every = EveryClass(images)
        described = _describe(network, every, every.digest(), "all", options)
        whole = _obtain(store, described, network, every, np.ones(len(every.samples), dtype=bool), options)
        if whole.kept:
            return _select(store, wanted | {"of": "every class"}, whole, every.rows_of(split.table), split)
    if options.keep is not False and split.is_part("unused").any():
        whole = obtain_features(store, network, images, split.with_all_training, options)
        if whole.kept:
            return _select(store, wanted | {"of": "every training image"}, whole, np.arange(len(split)), split)
    return _obtain(store, wanted, network, images, split.is_part("train"), options)


def _select(
    store: ContentStore, wanted: dict[str, Any], whole: FeatureCache, rows: np.ndarray, split: Split
) -> FeatureCache:
    """Return the `rows` of a kept cache that are a split's images, with statistics of its training images."""

    def build(folder: Path) -> None:
        statistics = [ChannelStatistics() for _ in whole.arrays]
        training = rows[split.is_part("train")]
        for batch in np.array_split(training, -(-len(training) // _SELECTION_BATCH)):
            _measure(statistics, whole.outputs(batch))
        write_selection(folder, whole, rows, {**wanted, "statistics": _moments(statistics)})

    folder, reused = store.obtain(content_key(**wanted), build)
    return open_cache(folder, reused)


def _obtain(
    store: ContentStore,
    wanted: dict[str, Any],
    network: FrozenNetwork,
    images: ImageSet,
    training: np.ndarray,
    options: ExtractionOptions,
) -> FeatureCache:
    """Find or compute the outputs of all images; `training` `(N,)` says which of them statistics are of."""

    def build(folder: Path) -> None:
        for left in folder.glob("*.npy"):  # by a run that was killed, and that may have kept what this one does not
            left.unlink()
        points = network.module.describe(images.size)
        measured: dict[str, Any] = {}
        batches = _run(network, images, training, options.batch_size, measured)
        fits = needed_bytes(points, wanted) < free_space(folder) / 2
        if fits if options.keep is None else options.keep:
            write_cache(folder, wanted, points, batches, measured, images.images_file)
            return
        logger.info("Outputs are computed anew whenever they are needed")
        for _ in batches:
            pass
        write_statistics(folder, {**wanted, **measured}, points)

    folder, reused = store.obtain(content_key(**wanted), build)
    if reused:
        logger.info("Features are there already: %d images", wanted["count"])
    return open_cache(folder, reused)


def _describe(
    network: FrozenNetwork, images: ImageSet, digest: str, training: str, options: ExtractionOptions
) -> dict[str, Any]:
    """Return what a manifest must say for its outputs to be these."""
    return {
        "network": network.reference.identity,
        "images": digest,
        "training_images": training,
        "image_size": list(images.size),
        "count": len(images.samples),
        "measured": "means of each image",
        **network.compute.describe(),
        **options.storage.named(),
    }


@torch.no_grad()
def _run(
    network: FrozenNetwork, images: ImageSet, training: np.ndarray, batch_size: int, measured: dict[str, Any]
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    statistics: list[ChannelStatistics] = []
    means = measured["means"] = []
    read = images.images_of(np.arange(len(training)), batch_size)
    for start in counted(range(0, len(training), batch_size), "Frozen network"):
        rows = np.arange(start, min(start + batch_size, len(training)))
        batch = torch.from_numpy(np.stack(list(islice(read, batch_size))))
        outputs = network.outputs(batch)
        statistics = statistics or [ChannelStatistics() for _ in outputs]
        if training[rows].any():
            _measure(statistics, [output[torch.from_numpy(training[rows])].cpu() for output in outputs])
        means.append(torch.cat([output.mean(dim=(2, 3)) for output in outputs], dim=1).cpu().numpy())
        yield batch.numpy(), outputs
    measured["statistics"] = _moments(statistics)


def _measure(statistics: list[ChannelStatistics], outputs: list[Tensor]) -> None:
    for measured, output in zip(statistics, outputs, strict=True):
        measured.update(output.numpy())


def _moments(statistics: list[ChannelStatistics]) -> list[dict[str, list[float]]]:
    return [{"mean": measured.mean.tolist(), "sd": measured.sd.tolist()} for measured in statistics]
