"""Training an ensemble of students on a teacher's descriptors of normal images (Bergmann et al. 2020, section 3.2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.features.extraction import FeatureSet
from kdad.features.network import FrozenNetwork
from kdad.networks.patch_descriptor import StudentEnsemble
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


def targets_of(
    teacher: FrozenNetwork, feature_set: FeatureSet, rows: np.ndarray, images: Tensor, standardise: Standardisation
) -> Tensor:
    """Return the standardised descriptors `(B, d, h, w)` of these rows' `images`: kept ones, or computed anew.

    `feature_set` has those of one teacher alone.
    """
    kept = feature_set.outputs(rows)
    with torch.no_grad():
        found = teacher.outputs(images) if kept is None else next(iter(kept.values()))
    return standardise(teacher.compute.move(found[0]))


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

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        images = compute.move(feature_set.batch(rows))
        targets = targets_of(teacher, feature_set, rows, images, standardise)
        with compute.autocast():
            found = predict(images, stride)
        errors = student_errors(found.float(), targets)
        return {"total": errors.sum(dim=1), "error_of_a_student": errors.mean(dim=1)}

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    metric = f"students.{{split}}.p{field}.{{term}}"
    task = TrainingTask(f"students p{field}", students, loss, *parts, names=feature_set.split.name, metric=metric)
    return train(task, parameters.training, derive_seed(seed, "students", field), checkpoint)
