"""Nodes of the pipeline `ingestion`."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from kdad.images.image_set import Sample
from kdad.images.patches import sample_patches
from kdad.images.registry import open_image_set
from kdad.images.splits import split_samples
from kdad.images.statistics import ChannelStatistics
from kdad.images.validation import check_images
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.ingestion import PatchParameters
from kdad.seeding import numpy_generator

_SAMPLE_COLUMNS = ["id", "label", "kind", "subset", "has_mask"]


def validate_images(dataset: dict[str, Any]) -> pd.DataFrame:
    """Check the image set and list its images in order: id, label, kind, subset, has_mask, fingerprint."""
    images = open_image_set(DatasetParameters(**dataset))
    check_images(images)
    table = pd.DataFrame([asdict(sample) for sample in images.samples], columns=_SAMPLE_COLUMNS)
    return table.assign(fingerprint=[images.fingerprint(row) for row in range(len(table))])


def split_images(image_table: pd.DataFrame, dataset: dict[str, Any], seed: int) -> pd.DataFrame:
    """Split the images, in their order, into train, validation and test (column `split`)."""
    samples = [Sample(*row) for row in image_table[_SAMPLE_COLUMNS].itertuples(index=False)]
    split = split_samples(samples, DatasetParameters(**dataset).validation_fraction, seed)
    table = image_table.assign(split=split)
    return table[["id", "label", "kind", "split", "has_mask", "fingerprint"]]


def compute_image_statistics(split_table: pd.DataFrame, dataset: dict[str, Any]) -> dict[str, Any]:
    """Measure each channel's mean and standard deviation over the training images."""
    images = open_image_set(DatasetParameters(**dataset))
    rows = _training_rows(split_table)
    statistics = ChannelStatistics()
    for row in track(rows, description="Image statistics", transient=True):
        statistics.update(images.image(row)[None])
    return {"mean": statistics.mean.tolist(), "sd": statistics.sd.tolist(), "images": len(rows)}


def index_patches(
    split_table: pd.DataFrame, dataset: dict[str, Any], patches: dict[str, Any], seed: int
) -> pd.DataFrame:
    """Sample patches of the training images: the image's row and id, the patch's upper left pixel (top, left)."""
    settings = PatchParameters(**patches)
    size = DatasetParameters(**dataset).size
    generator = numpy_generator(seed, "patches")
    index = sample_patches(_training_rows(split_table), size, settings.size, settings.per_image, generator)
    index.insert(1, "id", split_table["id"].to_numpy()[index["row"]])
    return index


def _training_rows(split_table: pd.DataFrame) -> list[int]:
    return np.flatnonzero((split_table["split"] == "train").to_numpy()).tolist()
