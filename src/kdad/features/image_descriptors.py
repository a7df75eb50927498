"""A teacher's dense descriptors of an image set: kept on disk where they fit, else computed again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.errors import InputError
from kdad.features.cache import ActivationCache, find_cache, free_space, write_cache, write_selection
from kdad.images.image_set import ImageSet
from kdad.images.one_class import EveryClass
from kdad.images.statistics import ChannelStatistics
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.source import CriticalPoint

logger = logging.getLogger(__name__)
_BATCH_PIXELS = 8 * 128 * 128


@dataclass(frozen=True)
class ImageDescriptors:
    """Images with their descriptors, standardised per channel by those of the training images.

    Targets are (y - mu) diag(sigma)^-1 (Bergmann et al. 2020, eq. 6).
    """

    image_set: ImageSet
    teacher: PatchDescriptor
    stride: int
    compute: Compute
    mean: Tensor
    sd: Tensor
    cache: ActivationCache | None

    def images(self, rows: np.ndarray) -> Tensor:
        """Return images `(B, 3, H, W)` in [0, 1]."""
        return self.compute.move(_read(self.image_set, rows) if self.cache is None else self.cache.images(rows))

    def targets(self, rows: np.ndarray) -> Tensor:
        """Return standardised descriptors `(B, d, h, w)` of whole images, float32."""
        if self.cache is None:
            return self.describe(self.images(rows))
        return self.standardise(self.compute.move(self.cache.activations(rows)[0]))

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """Return standardised descriptors `(B, d, h, w)` of images, computed now."""
        return self.standardise(_run(self.teacher, images, self.stride, self.compute))

    def standardise(self, descriptors: Tensor) -> Tensor:
        """Return (y - mu) / sigma for each channel."""
        return (descriptors - self.mean.view(1, -1, 1, 1)) / self.sd.view(1, -1, 1, 1)


def open_descriptors(
    folder: Path,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    teacher: PatchDescriptor,
    teacher_key: str,
    parameters: StudentParameters,
    compute: Compute,
    every_class: Path | None = None,
) -> ImageDescriptors:
    """Describe every image once and keep the result in `folder`, or measure the statistics and keep nothing.

    Mean and standard deviation of each channel are streamed over the training images. With `every_class` the images
    are of a labelled set whose classes share the descriptors in that folder. Raises `InputError` for images smaller
    than the receptive field, without held-out images, or when descriptors must be kept and do not fit.
    """
    check_images(split_table, image_set.size, [teacher.patch_size])
    teacher = compute.place(teacher)
    height, width = (-(-side // parameters.output_stride) for side in image_set.size)
    point = CriticalPoint(f"p{teacher.patch_size}", teacher.depth, height, width, signed=True)
    wanted = {
        "teacher": teacher_key,
        "images": _digest(split_table),
        "image_size": list(image_set.size),
        "stride": parameters.output_stride,
        **compute.describe(),
    }

    def describe(images: ImageSet, table: pd.DataFrame, statistics: dict) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
        return _describe_all(images, table, teacher, parameters.output_stride, compute, statistics)

    def keep(place: Path, images: ImageSet, digest: str, table: Callable[[], pd.DataFrame]) -> ActivationCache:
        of_these, statistics = {**wanted, "images": digest}, {"scales": [1.0]}
        found = find_cache(place, of_these)
        if found is not None:
            return found
        rows = table()
        return write_cache(place, of_these, [point], len(rows), describe(images, rows, statistics), statistics)

    def select(place: Path, images: EveryClass) -> ActivationCache:
        found = find_cache(folder, wanted)
        if found is not None:
            return found
        whole = keep(place, images, images.digest(), images.table)
        return _select(folder, wanted, whole, images.rows_of(split_table), split_table)

    kept = image_set if every_class is None else EveryClass(image_set)
    cache = None
    if _keeps(folder, point, kept, parameters, compute):
        if every_class is None:
            cache = keep(folder, image_set, wanted["images"], lambda: split_table)
        else:
            cache = select(every_class, kept)
        found = cache.manifest
    else:
        found = _statistics(folder, wanted, lambda statistics: describe(image_set, split_table, statistics))
    mean, sd = (torch.tensor(found[name], device=compute.device) for name in ("mean", "sd"))
    return ImageDescriptors(image_set, teacher, parameters.output_stride, compute, mean, sd, cache)


def _select(
    folder: Path, wanted: dict, whole: ActivationCache, rows: np.ndarray, split_table: pd.DataFrame
) -> ActivationCache:
    """Keep descriptors that are these `rows` of those of all classes, with statistics of their training images."""
    training = rows[(split_table["split"] == "train").to_numpy()]
    statistics = ChannelStatistics()
    for batch in np.array_split(training, -(-len(training) // 64)):
        statistics.update(whole.activations(batch)[0].numpy())
    return write_selection(folder, whole, rows, {**wanted, "scales": [1.0], **_moments(statistics)})


def _statistics(folder: Path, wanted: dict, describe: Callable[[dict], Iterator]) -> dict:
    """Return mean and sd of the descriptors, measured once and kept beside where a cache would lie."""
    path = folder.with_suffix(".json")
    if path.exists() and (kept := json.loads(path.read_text())).items() >= wanted.items():
        return kept
    logger.info("Descriptors are computed anew in every epoch")
    finish: dict = {}
    for _ in describe(finish):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted | finish))
    os.replace(temporary, path)
    return finish


def check_images(split_table: pd.DataFrame, size: tuple[int, int], receptive_fields: list[int]) -> None:
    """Raise `InputError` when images are smaller than a receptive field, or no normal image trains or is held out."""
    largest = max(receptive_fields)
    if min(size) < largest:
        raise InputError(
            f"images of {size[0]} x {size[1]} pixels are smaller than the receptive field {largest}; set a larger "
            f"dataset.image_size, or leave {largest} out of students.receptive_fields"
        )
    for split, use in (("train", "learn from"), ("validation", "normalise maps and set the threshold with")):
        if not (split_table["split"] == split).any():
            raise InputError(f"the split has no {split} image to {use}; add normal images or raise validation_fraction")


def _keeps(
    folder: Path, point: CriticalPoint, images: ImageSet, parameters: StudentParameters, compute: Compute
) -> bool:
    if parameters.descriptors != "auto":
        return parameters.descriptors == "cache"
    if parameters.augmentation != "none":
        return False
    per_image = point.channels * point.height * point.width * (2 if compute.dtype == torch.bfloat16 else 4)
    return len(images.samples) * (per_image + 12 * images.size[0] * images.size[1]) < free_space(folder) / 2


def _describe_all(
    images: ImageSet, split_table: pd.DataFrame, teacher: PatchDescriptor, stride: int, compute: Compute, finish: dict
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    training = (split_table["split"] == "train").to_numpy()
    statistics = ChannelStatistics()
    size = images_in(_BATCH_PIXELS, images.size)
    for start in track(range(0, len(split_table), size), description="Teacher descriptors", transient=True):
        rows = np.arange(start, min(start + size, len(split_table)))
        batch = _read(images, rows)
        with torch.no_grad():
            found = _run(teacher, compute.move(batch), stride, compute)
        if training[rows].any():
            statistics.update(found[torch.from_numpy(training[rows])].cpu().numpy())
        yield batch.numpy(), [found]
    finish |= _moments(statistics)


def _moments(statistics: ChannelStatistics) -> dict[str, list[float]]:
    return {"mean": statistics.mean.tolist(), "sd": np.where(statistics.sd > 0, statistics.sd, 1.0).tolist()}


def images_in(pixels: int, size: tuple[int, int]) -> int:
    """Return how many images of `size` (H, W) a batch of about so many pixels has, at least one."""
    return max(pixels // (size[0] * size[1]), 1)


def _digest(split_table: pd.DataFrame) -> str:
    return hashlib.sha256(split_table[["id", "fingerprint", "split"]].to_csv().encode()).hexdigest()[:16]


def _run(teacher: PatchDescriptor, images: Tensor, stride: int, compute: Compute) -> Tensor:
    with compute.autocast():
        return teacher.dense(images, stride).float()


def _read(images: ImageSet, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([images.image(int(row)) for row in rows]))
