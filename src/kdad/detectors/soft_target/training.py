"""Training classifiers, on labels or on a teacher's soft targets."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.soft_target.classifier import Classifier
from kdad.detectors.soft_target.losses import UNLABELLED, soft_target_terms
from kdad.detectors.soft_target.parameters import ClassifierParameters
from kdad.images.published.one_class import ClassifiedImages, LabelledImages, image_batch
from kdad.seeding import derive_seed, torch_seed
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train
from kdad.training.parameters import TrainingParameters

_BATCH = 512
_EPOCHS = 10


@dataclass(frozen=True)
class Lesson:
    """What is learnt: rows of the training part, which of them have labels, and how soft the targets are.

    `alpha` 0 is hard labels alone.
    """

    rows: np.ndarray
    labelled: np.ndarray
    temperature: float = 1.0
    alpha: float = 0.0


def train_classifier(
    images: ClassifiedImages,
    lesson: Lesson,
    teacher_logits: Tensor | None,
    parameters: ClassifierParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> tuple[Classifier, pd.DataFrame]:
    """Train a classifier to the last epoch and return it with its loss history.

    `teacher_logits` `(N, K)` are of all training images, by row; None when alpha is 0. Validation rows of the history
    are the validation images', with their labels.
    """
    classes = len(images.class_names)
    with torch_seed(seed, "classifier"):
        network = compute.place(Classifier(images.channels, classes, parameters.widths, parameters.hidden))
    labels = torch.full((len(images.train.classes),), UNLABELLED)
    known = np.concatenate([lesson.labelled, images.validation_rows])
    labels[known] = torch.from_numpy(images.train.classes[known].astype(np.int64))
    teacher = torch.zeros(len(labels), classes) if teacher_logits is None else teacher_logits

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        with compute.autocast():
            found = network.classify(compute.move(image_batch(images.train, rows)))
        known_labels, targets = (values[rows].to(compute.device) for values in (labels, teacher))
        return soft_target_terms(found, targets, known_labels, lesson.temperature, lesson.alpha)

    # Few images are repeated, so that an epoch, after which validation images are measured, is a tenth of the training.
    repeats = math.ceil(parameters.steps * parameters.batch_size / (_EPOCHS * len(lesson.rows)))
    rows = np.tile(lesson.rows, repeats)
    training = TrainingParameters(
        epochs=math.ceil(parameters.steps / math.ceil(len(rows) / parameters.batch_size)),
        batch_size=parameters.batch_size,
        learning_rate=parameters.learning_rate,
        schedule="one_cycle",
        checkpoint_every=5,
    )
    task = TrainingTask("classifier", network, loss, rows, images.validation_rows, names="train/{:05d}".format)
    return network, train(task, training, derive_seed(seed, "classifier"), checkpoint)


@torch.no_grad()
def predict_logits(network: Classifier, images: LabelledImages, compute: Compute) -> Tensor:
    """Return logits `(N, K)` of all images, float32 on the CPU."""
    network.eval()
    found = []
    for start in range(0, len(images.classes), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(images.classes)))
        with compute.autocast():
            found.append(network.classify(compute.move(image_batch(images, rows))).float().cpu())
    return torch.cat(found)
