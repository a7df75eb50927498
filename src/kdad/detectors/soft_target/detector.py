"""Soft targets as a detector: where a student of one class disagrees with the teacher of all."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from kdad.detectors.detector import Detector, FitResult, FrozenOutputs, Outputs, TrainContext
from kdad.detectors.learnt import count_parameters, state_of
from kdad.detectors.soft_target.distillation import Classifier, Distillation, softened_divergence
from kdad.detectors.soft_target.parameters import SoftTargetSettings
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.one_class import classified_images, one_class_split
from kdad.networks.source import CriticalPoint
from kdad.networks.weights import fingerprint_state
from kdad.scoring.image_score import ImageScore
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

_BATCH = 512
_SCORE = "disagreement"


class ClassifierReference(NetworkReference):
    """A classifier by its shape and its weights' hash."""

    channels: int = Field(description="1 for grey images, 3 for colour")
    classes: int = Field(description="logits")
    widths: list[int] = Field(description="channels of each block")
    hidden: int = Field(description="units before the logits")

    def open(self) -> "FrozenClassifier":
        """Read the classifier, frozen; raises `InputError` when the file is gone, unreadable or another's."""
        state = self.read_weights()
        classifier = Classifier(self.channels, self.classes, self.widths, self.hidden)
        classifier.load_state_dict(state)
        return FrozenClassifier(classifier, self.channels, self.classes).requires_grad_(False).eval()


class FrozenClassifier(nn.Module):
    """Gives one output, the logits `(B, K, 1, 1)` of images `(B, 3, H, W)`; of grey images one channel is seen."""

    def __init__(self, classifier: Classifier, channels: int, classes: int) -> None:
        super().__init__()
        self.classifier, self.channels, self.classes = classifier, channels, classes

    def forward(self, images: Tensor) -> list[Tensor]:
        """Classify the images."""
        return [self.classifier.classify(images[:, : self.channels])[..., None, None]]

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        return [CriticalPoint("logits", self.classes, 1, 1, signed=True)]


class SoftTargetDetector(Detector):
    """KL(teacher || student) of softened distributions; the student has learnt from images of one class alone.

    Hinton et al. 2015 for the distillation. The teacher has seen every class with its label, which one-class methods
    have not. Raw score: ``disagreement``; there is no map.
    """

    system = "soft_target"
    Settings = SoftTargetSettings
    Reference = ClassifierReference

    @classmethod
    def prepare_images(cls, settings: SoftTargetSettings, feature_set: FeatureSet, split_seed: int) -> FeatureSet:
        """Return the images at the files' own size, held out as the classifiers' are.

        Raises `InputError` for a set without classes.
        """
        classified = classified_images(feature_set.images, split_seed)
        images = feature_set.images.at_own_size()
        return FeatureSet(images, one_class_split(images, classified), {})

    @classmethod
    def frozen_networks(
        cls, settings: SoftTargetSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        distillation = _distillation(settings, feature_set, train_context)
        teacher, network = distillation.teacher(train_context.seed), settings.soft_target.teacher
        reference = ClassifierReference(
            channels=distillation.images.channels,
            classes=len(distillation.images.class_names),
            widths=network.widths,
            hidden=network.hidden,
            weights=str(teacher.weights.resolve()),
            fingerprint=fingerprint_state(teacher.state),
        )
        return {"teacher": reference}

    @classmethod
    def extraction_options(cls, settings: SoftTargetSettings, size: tuple[int, int]) -> ExtractionOptions:
        return ExtractionOptions(_BATCH)

    @classmethod
    def describe(cls, settings: SoftTargetSettings) -> str:
        return "teacher of all classes"

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        distillation = _distillation(self.settings, feature_set, train_context)
        student = distillation.one_class_student(feature_set.images.normal_class, train_context.seed)
        self.size = feature_set.images.size
        self.key = content_key(student=student.key, code=code_digest(__name__))
        self.load_state(student.state, {})
        return FitResult(student.history, student.seconds, student.reused, "student")

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self.student)

    def metadata(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        teacher, network = self.references["teacher"], self.settings.soft_target.student
        self.student = Classifier(teacher.channels, teacher.classes, network.widths, network.hidden)
        self.student.load_state_dict(state)
        self.compute.place(self.student).eval()

    @property
    def methods(self) -> list[str]:
        return []

    @property
    def image_score(self) -> ImageScore:
        return ImageScore(_SCORE, "raw")

    def batch_size(self, method: str | None = None) -> int:
        return _BATCH

    def cost(self) -> dict[str, float]:
        return {"parameters": count_parameters(self.student)}

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        images = self.compute.move(images)
        outputs = self.outputs(images) if outputs is None else outputs
        with self.compute.autocast():
            found = self.student.classify(images[:, : self.references["teacher"].channels])
        teacher = outputs["teacher"][0][..., 0, 0].to(found.device)
        divergence = softened_divergence(found.float(), teacher, self.settings.soft_target.temperature)
        return Outputs({_SCORE: divergence}, {})


def _distillation(settings: SoftTargetSettings, feature_set: FeatureSet, train_context: TrainContext) -> Distillation:
    images = classified_images(feature_set.images, train_context.split_seed)
    return Distillation(images, settings.soft_target, train_context.compute, train_context.models)
