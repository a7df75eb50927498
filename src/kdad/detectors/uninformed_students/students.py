"""An ensemble of students: its training on a teacher's descriptors, and its maps (Bergmann et al. 2020, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.features.extraction import FeatureSet
from kdad.features.network import FrozenNetwork
from kdad.networks.patch_descriptor import StudentEnsemble
from kdad.scoring.per_pixel import PixelStats, ZScore
from kdad.seeding import derive_seed
from kdad.training.loop import CheckpointFile, TrainingTask, train

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each channel of a teacher's descriptors over the training images."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, statistics: dict[str, list[float]], device: torch.device) -> "Standardisation":
        """Take a cache's statistics; a constant channel keeps its scale."""
        mean, sd = (torch.tensor(statistics[name], device=device) for name in ("mean", "sd"))
        return cls(mean, torch.where(sd > 0, sd, 1.0))

    def __call__(self, descriptors: Tensor) -> Tensor:
        """Return (y - mu) diag(sigma)^-1 of descriptors `(B, d, h, w)` (Bergmann et al. 2020, eq. 6)."""
        return (descriptors - self.mean.view(1, -1, 1, 1)) / self.sd.view(1, -1, 1, 1)


def student_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return `(B, M)`: each student's squared distance to the teacher, summed over channels, mean over positions.

    `predictions` are `(B, M, d, h, w)`, `targets` `(B, d, h, w)` (Bergmann et al. 2020, eq. 6).
    """
    return (predictions - targets[:, None]).square().sum(dim=2).mean(dim=(2, 3))


def train_students(
    students: StudentEnsemble,
    teacher: FrozenNetwork,
    feature_set: FeatureSet,
    standardise: Standardisation,
    parameters: StudentParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> "pd.DataFrame":
    """Train M students together, in place, on the training images; return the loss history.

    `feature_set` holds the descriptors of one teacher; where they are not kept, it computes
    them anew. Losses of the students are added up, so each learns as it would alone.
    """
    field, stride = students.patch_size, parameters.output_stride
    predict = compute.compiled(students.dense)

    def describe(images: Tensor) -> Tensor:
        with torch.no_grad():
            return teacher.outputs(images)[0]

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        images, kept = compute.move(feature_set.batch(rows)), feature_set.outputs(rows)
        targets = standardise(describe(images) if kept is None else compute.move(kept[f"p{field}"][0]))
        with compute.autocast():
            found = predict(images, stride)
        errors = student_errors(found.float(), targets)
        return {"total": errors.sum(dim=1), "error_of_a_student": errors.mean(dim=1)}

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    metric = f"students.{{split}}.p{field}.{{term}}"
    task = TrainingTask(f"students p{field}", students, loss, *parts, names=feature_set.split.name, metric=metric)
    return train(task, parameters.training, derive_seed(seed, "students", field), checkpoint)


def regression_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return e = || mean_i mu_i - y ||^2 at each position `(B, h, w)`, y being the standardised descriptors.

    `predictions` are `(B, M, d, h, w)`, `targets` `(B, d, h, w)` (Bergmann et al. 2020, eq. 8).
    """
    return (predictions.mean(dim=1) - targets).square().sum(dim=1)


def predictive_variance(predictions: Tensor) -> Tensor:
    """Return v = mean_i ||mu_i||^2 - || mean_i mu_i ||^2 at each position `(B, h, w)`; 0 for one student.

    `predictions` are `(B, M, d, h, w)` (Bergmann et al. 2020, eq. 9).
    """
    # The same number as the difference of two large ones, without its cancellation.
    return (predictions - predictions.mean(dim=1, keepdim=True)).square().sum(dim=2).mean(dim=1)


def fuse_maps(maps: list[tuple[Tensor, ZScore | PixelStats]], scales: int) -> Tensor:
    """Return the sum of normalised maps `(N, h, w)` divided by the number of scales.

    For e and v of each receptive field this is the mean over scales of (e - e_mu) / e_sigma + (v - v_mu) / v_sigma
    (Bergmann et al. 2020, eq. 10 and 11).
    """
    return sum(constants.normalise(values) for values, constants in maps) / scales


def spread_grid(maps: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return maps `(N, h, w)`, known at every `stride`-th pixel, linearly interpolated to `size` (H, W).

    Pixel (i * stride, j * stride) keeps the value at (i, j); beyond the last known row and column values are repeated.
    """
    if stride == 1:
        return maps
    known = [(side - 1) * stride + 1 for side in maps.shape[1:]]
    dense = F.interpolate(maps[:, None], known, mode="bilinear", align_corners=True)
    return F.pad(dense, (0, size[1] - known[1], 0, size[0] - known[0]), mode="replicate")[:, 0]


#: Of every receptive field.
_ADDED = {"combined": ("e", "v"), "regression_error": ("e",), "predictive_variance": ("v",)}


def every_part(fields: Sequence[int]) -> list[str]:
    """Return the names of e and v of these receptive fields."""
    return [f"{part}_p{field}" for field in fields for part in ("e", "v")]


def parts_of(method: str, fields: Sequence[int]) -> list[str]:
    """Return which of them a map adds up, such as ``combined`` or ``combined_p17``.

    None for a map of one receptive field where there is no other, since ``combined`` is the same.
    """
    kind, _, only = method.partition("_p") if method.startswith("combined_p") else (method, "", "")
    if only and len(fields) == 1:
        return []
    chosen = [field for field in fields if not only or field == int(only)]
    return [f"{part}_p{field}" for field in chosen for part in _ADDED[kind]]


def images_in(pixels: int, size: tuple[int, int]) -> int:
    """Return how many images of `size` (H, W) a batch of about so many pixels has, at least one."""
    return max(pixels // (size[0] * size[1]), 1)
