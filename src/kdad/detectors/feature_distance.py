"""Detectors of one map: how far a student's features are from the source's at some of its critical points."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from kdad.detectors.detector import FitResult, FrozenOutputs, Outputs, SourceDetector, TrainContext
from kdad.detectors.learnt import count_flops, count_parameters, state_of, train_once
from kdad.features.extraction import FeatureSet
from kdad.networks.fusion import for_predicting
from kdad.networks.source import choose_points
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import take_map_moments
from kdad.seeding import torch_seed
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest
from kdad.training.loop import TrainingTask, train

_MAP = "feature_distance"


def location_distance(source: Tensor, student: Tensor) -> Tensor:
    """Return one minus the cosine over channels at each location, `(B, h, w)` in [0, 2], for `(B, C, h, w)`.

    It is half the squared distance of features of length 1, which keeps digits that one minus a cosine near 1 loses.
    """
    return 0.5 * (normalize(source.float(), dim=1) - normalize(student.float(), dim=1)).square().sum(1)


class FeatureDistanceDetector(SourceDetector):
    """A student learns the source's features of normal images. Map: ``feature_distance``.

    A system says what its student is, what it sees, and what is compared; its settings are one block of its own name
    with `source`, `features`, `points`, `training`, `normalisation`, `smoothing`, `score` and `top_fraction`.
    """

    @abstractmethod
    def new_student(self) -> nn.Module:
        """Build the student, untrained; raises `InputError` where it cannot be."""

    @abstractmethod
    def imitate(self, student: nn.Module, images: Tensor, source: list[Tensor]) -> list[Tensor]:
        """Return the student's features `(B, C_i, h_i, w_i)` for images `(B, 3, H, W)`, or for the `source`'s."""

    @abstractmethod
    def loss(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return how far a student's features are from the source's, `(B,)`."""

    @abstractmethod
    def distance(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return how far they are at each pixel, `(B, H, W)`."""

    def shape_student(self, feature_set: FeatureSet) -> None:
        """Take from the training images what the student's form depends on."""

    def student_settings(self) -> dict[str, Any]:
        """Return the parameters, besides points and training, that the trained student depends on."""
        return {}

    @property
    def block(self) -> Any:
        """The system's own parameters."""
        return self.source_settings(self.settings)

    @classmethod
    def source_settings(cls, settings: Any) -> Any:
        return getattr(settings, cls.system)

    @classmethod
    def check(cls, settings: Any, feature_set: FeatureSet) -> None:
        points = cls.source_settings(settings).points
        choose_points(points, feature_set.features["source"].names, f"{cls.system}.points")

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        cache, seed = feature_set.features["source"], train_context.seed
        self.size = cache.size
        self.shape_student(feature_set)
        self.key = content_key(
            source=cache.identity,
            student=self.student_settings(),
            points=self.block.points,
            training=self.block.training.model_dump(),
            seed=seed,
            code=code_digest(type(self).__module__),
        )

        def run(checkpoint):
            with torch_seed(seed, self.system, "initialisation"):
                student = self.compute.place(self.new_student())
            compiled = self.compute.compiled(student)

            def loss(rows: np.ndarray) -> dict[str, Tensor]:
                source = self._chosen(cache.outputs(rows))
                with self.compute.autocast():
                    imitated = self.imitate(compiled, self.compute.move(cache.images(rows)), source)
                return {"total": self.loss(source, imitated)}

            parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
            metric = "student.{split}.{term}"
            task = TrainingTask(self.system, student, loss, *parts, names=feature_set.split.name, metric=metric)
            return student, train(task, self.block.training, seed, checkpoint)

        trained = train_once(train_context.models, self.key, run)
        self._take_student(trained.state)
        self.moments = None
        if self.block.normalisation == "per_pixel":
            self.moments = self.measure_moments(feature_set, self._distance, self.block.smoothing.gaussian_sigma)
        return FitResult(trained.history, trained.seconds, trained.reused, "student")

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self.student) | (self.moments.state(_MAP) if self.moments else {})

    def metadata(self) -> dict[str, Any]:
        return {}  # the source is named beside

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        asked = self.block.normalisation
        self.moments = take_map_moments(state, _MAP, self.size, asked, f"{self.system}.normalisation")
        self._take_student(state)

    def _take_student(self, state: dict[str, Tensor]) -> None:
        self.student = self.new_student()
        self.student.load_state_dict(state)
        self._predicting = for_predicting(self.compute.place(self.student).eval(), self.compute)

    @property
    def methods(self) -> list[str]:
        return [_MAP]

    @property
    def image_score(self) -> ImageScore:
        return ImageScore(_MAP, self.block.score, self.block.top_fraction)

    @property
    def depth(self) -> int:
        return 1 + max(self.chosen_points)

    def smoothing(self, method: str) -> SmoothingParameters:
        return self.block.smoothing

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        # Moments are those of smoothed maps.
        return {"sigma": self.block.smoothing.gaussian_sigma} if self.block.normalisation == "per_pixel" else {}

    def cost(self) -> dict[str, float]:
        images = torch.zeros(1, 3, *self.size, device=self.compute.device)
        operations = count_flops(lambda: self.imitate(self.student, images, []))
        return {"parameters": count_parameters(self.student), "flops": operations}

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        distance = self._distance(images, outputs)
        return Outputs({}, {_MAP: self.moments.normalise(distance) if self.moments else distance})

    def _distance(self, images: Tensor, outputs: FrozenOutputs | None) -> Tensor:
        images = self.compute.move(images)
        source = self._chosen((self.outputs(images) if outputs is None else outputs)["source"])
        with self.compute.autocast():
            student = self.imitate(self._predicting, images, source)
        return self.distance(source, student)

    @property
    def chosen_points(self) -> list[int]:
        """The indices of the source's critical points that are compared."""
        names = tuple(self.references["source"].critical_points)
        return choose_points(self.block.points, names, f"{self.system}.points")

    def _chosen(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        return [self.compute.move(outputs[i]) for i in self.chosen_points]
