"""Teachers and students of soft targets, their losses, each trained once and found again by what it depends on."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from kdad.compute import Compute
from kdad.detectors.learnt import Trained, train_once
from kdad.detectors.soft_target.parameters import ClassifierParameters, SoftTargetParameters
from kdad.images.image_set import hash_content
from kdad.images.one_class import ClassifiedImages, LabelledImages, image_batch
from kdad.metrics.ranking import classification_metrics
from kdad.parameters.blocks import TrainingParameters
from kdad.seeding import derive_seed, torch_seed
from kdad.storage.content_store import ContentStore, content_key
from kdad.storage.provenance import code_digest
from kdad.training.loop import CheckpointFile, TrainingTask, train

UNLABELLED = -1


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return q_i = exp(z_i / T) / sum_j exp(z_j / T), `(B, K)` (eq. 1): the larger T, the softer."""
    return torch.softmax(logits.float() / temperature, dim=1)


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) of the softened distributions, `(B,)`, for logits `(B, K)`."""
    found = log_softmax(student.float() / temperature, dim=1)
    return kl_div(found, soften(teacher, temperature), reduction="none").sum(1)


def soft_target_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> dict[str, Tensor]:
    """Return ``total`` = alpha T^2 KL + (1 - alpha) CE with its terms ``soft`` and ``hard``, each `(B,)` (section 2).

    T^2 keeps the soft term's gradient at its scale when T changes. CE is 0 for rows labelled `UNLABELLED`.
    """
    soft = temperature**2 * softened_divergence(student, teacher, temperature)
    hard = cross_entropy(student.float(), labels, ignore_index=UNLABELLED, reduction="none")
    return {"total": alpha * soft + (1 - alpha) * hard, "soft": soft, "hard": hard}


def best_offset(logits: Tensor, labels: Tensor, number: int) -> float:
    """Return what to add to a class's logit so that most of these images are classified rightly.

    `logits` are `(N, K)`, `labels` `(N,)`. Of equally good offsets it is the middle of the lowest run (Hinton et al.
    2015, section 3, where the offset was set on test images; here it is for validation ones).
    """
    others = logits.clone()
    others[:, number] = -torch.inf
    rival, rival_class = others.max(1)
    # From this offset on, an image is given to the class.
    margin, order = (rival - logits[:, number]).sort()
    gained = (labels == number).long() - (rival_class == labels).long()
    rightly = torch.cat([torch.zeros(1, dtype=torch.long), gained[order].cumsum(0)])
    step = int(rightly.argmax())
    if step == 0:
        return float(margin[0] - 1)
    return float(margin[step - 1] + 1) if step == len(margin) else float((margin[step - 1] + margin[step]) / 2)


_GRID = 3  # positions a side that a classifier's last feature map is pooled to
_BATCH = 512
_EPOCHS = 10


class Classifier(nn.Sequential):
    """Teacher, or student of fewer widths, from `(B, C, H, W)` to logits `(B, K)`.

    Blocks of convolution, BatchNorm, ReLU and max-pool, then two linear layers.
    """

    def __init__(self, channels: int, classes: int, widths: list[int], hidden: int) -> None:
        blocks: list[nn.Module] = []
        for before, width in zip([channels, *widths], widths, strict=False):
            blocks += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
        head = [nn.Flatten(), nn.Linear(widths[-1] * _GRID**2, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(_GRID), *head)

    def classify(self, images: Tensor) -> Tensor:
        """Return logits of images in [0, 1], centred first."""
        return self(images * 2 - 1)


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


@dataclass(frozen=True)
class Distillation:
    """The images, the settings and the store that all teachers and students of a run share.

    Each keeps its logits ``train`` and ``test`` of all training and all test images.
    """

    images: ClassifiedImages
    parameters: SoftTargetParameters
    compute: Compute
    store: ContentStore

    def teacher(self, seed: int) -> Trained:
        """Train the teacher on every labelled training image."""
        rows = self.images.fit_rows
        return self._obtain(Lesson(rows, rows), None, self.parameters.teacher, seed)

    def student(self, lesson: Lesson, seed: int) -> Trained:
        """Train a student; it starts from the same weights for every lesson of a seed."""
        return self._obtain(lesson, self.teacher(seed) if lesson.alpha else None, self.parameters.student, seed)

    def one_class_student(self, number: int, seed: int) -> Trained:
        """Distil a student on the images of one class alone, without labels."""
        own = self.images.fit_rows[self.images.train.classes[self.images.fit_rows] == number]
        return self.student(Lesson(own, own[:0], self.parameters.temperature, 1.0), seed)

    def test_metrics(self, trained: Trained) -> dict[str, float]:
        """Return accuracy and calibration on the test images."""
        return classification_metrics(trained.outputs["test"], self.labels("test"))

    def validation_accuracy(self, trained: Trained) -> float:
        """Return the accuracy on validation training images, by which settings may be chosen."""
        rows = self.images.validation_rows
        return classification_metrics(trained.outputs["train"][rows], self.labels("train")[rows])["accuracy"]

    def labels(self, part: str) -> Tensor:
        """Return the classes of the training or test part, by row."""
        found = self.images.train if part == "train" else self.images.test
        return torch.from_numpy(found.classes.astype(np.int64))

    @cached_property
    def _image_digests(self) -> list[str]:
        return [hash_content(part.pixels.tobytes()) for part in (self.images.train, self.images.test)]

    def _obtain(self, lesson: Lesson, teacher: Trained | None, network: ClassifierParameters, seed: int) -> Trained:
        key = content_key(
            images=self._image_digests,
            rows=hash_content(lesson.rows.tobytes()),
            labelled=hash_content(lesson.labelled.tobytes()),
            validation=hash_content(self.images.validation_rows.tobytes()),
            targets=[lesson.temperature, lesson.alpha, teacher and teacher.key],
            network=network.model_dump(),
            compute=self.compute.describe(),
            seed=seed,
            code=code_digest(__name__),
        )

        def run(checkpoint):
            logits = None if teacher is None else teacher.outputs["train"]
            return train_classifier(self.images, lesson, logits, network, self.compute, seed, checkpoint)

        def predict(trained):
            parts = {"train": self.images.train, "test": self.images.test}
            return {name: predict_logits(trained, part, self.compute) for name, part in parts.items()}

        return train_once(self.store, key, run, predict)
