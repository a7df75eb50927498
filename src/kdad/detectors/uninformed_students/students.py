"""Training an ensemble of students on a teacher's descriptors of normal images (Bergmann et al. 2020, section 3.2)."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdad.detectors.uninformed_students.parameters import StudentParameters
from kdad.features.image_descriptors import ImageDescriptors
from kdad.networks.patch_descriptor import StudentEnsemble
from kdad.seeding import derive_seed
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train


def student_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return `(B, M)`: each student's squared distance to the teacher, summed over channels, mean over positions.

    `predictions` are `(B, M, d, h, w)`, `targets` `(B, d, h, w)` (Bergmann et al. 2020, eq. 6).
    """
    return (predictions - targets[:, None]).square().sum(dim=2).mean(dim=(2, 3))


def train_students(
    descriptors: ImageDescriptors,
    split_table: pd.DataFrame,
    width: float,
    parameters: StudentParameters,
    seed: int,
    checkpoint: CheckpointFile,
) -> tuple[StudentEnsemble, pd.DataFrame]:
    """Train M students together on the rows of split ``train``; return them with their loss history.

    Their losses are added up, so each learns as it would alone.
    """
    teacher, compute = descriptors.teacher, descriptors.compute
    students = compute.place(StudentEnsemble(parameters.count, teacher.patch_size, teacher.depth, width, seed))

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        images = descriptors.images(rows)
        if students.training and parameters.augmentation == "flips":
            images = _flip(images)
            targets = descriptors.describe(images)
        else:
            targets = descriptors.targets(rows)
        with compute.autocast():
            found = students.dense(images, descriptors.stride)
        errors = student_errors(found.float(), targets)
        return {"total": errors.sum(dim=1), "error_of_a_student": errors.mean(dim=1)}

    rows = {split: np.flatnonzero(split_table["split"] == split) for split in ("train", "validation")}
    task = TrainingTask(f"students p{teacher.patch_size}", students, loss, rows["train"], rows["validation"])
    return students, train(task, parameters.training, derive_seed(seed, "students", teacher.patch_size), checkpoint)


def _flip(images: Tensor) -> Tensor:
    """Mirror the whole batch along each axis with an even chance."""
    axes = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
    return images.flip(axes) if axes else images
