"""Teachers and students of soft targets, each trained once and found again by what it depends on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.learnt import Trained, train_once
from kdad.detectors.soft_target.parameters import ClassifierParameters, SoftTargetParameters
from kdad.detectors.soft_target.training import Lesson, predict_logits, train_classifier
from kdad.images.image_set import hash_content
from kdad.images.published.one_class import ClassifiedImages
from kdad.metrics.ranking import classification_metrics
from kdad.storage.content_store import ContentStore, content_key
from kdad.storage.provenance import code_digest


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
            code=code_digest("kdad.detectors.soft_target.training"),
        )

        def train(checkpoint):
            logits = None if teacher is None else teacher.outputs["train"]
            return train_classifier(self.images, lesson, logits, network, self.compute, seed, checkpoint)

        def predict(trained):
            parts = {"train": self.images.train, "test": self.images.test}
            return {name: predict_logits(trained, part, self.compute) for name, part in parts.items()}

        return train_once(self.store, key, train, predict)
