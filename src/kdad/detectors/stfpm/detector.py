"""STFPM as a detector: where the student's feature pyramid departs from the source's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdad.detectors.context import FitResult, FrozenOutputs, Outputs, TrainContext
from kdad.detectors.detector import Detector
from kdad.detectors.learnt import count_flops, count_parameters, state_of, train_once
from kdad.detectors.stfpm.losses import pyramid_loss, pyramid_map
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference, SourceReference, reference_source
from kdad.networks.source import build_source, choose_points
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import PixelStats, measure_smoothed, moments_state, take_map_moments
from kdad.seeding import torch_seed
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest
from kdad.training.loop import TrainingTask, train

_MAP = "feature_distance"


class StfpmDetector(Detector):
    """A student of the source's own architecture learns its features of normal images, each of length 1.

    Wang et al. 2021, "Student-Teacher Feature Pyramid Matching for Anomaly Detection". Map: ``feature_distance``.
    """

    system = "stfpm"
    Settings = StfpmSettings
    Reference = SourceReference

    @classmethod
    def frozen_networks(
        cls, settings: StfpmSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        """Return the source."""
        return {"source": reference_source(settings.stfpm.source, feature_set, train_context.models)}

    @classmethod
    def passage(cls, settings: StfpmSettings, size: tuple[int, int]) -> ExtractionOptions:
        """Return how many images the source sees at once, and how what it gives is kept."""
        return ExtractionOptions.of(settings.stfpm.features)

    @classmethod
    def check(cls, settings: StfpmSettings, feature_set: FeatureSet) -> None:
        """Raise `InputError` for critical points that the source does not have."""
        choose_points(settings.stfpm.points, feature_set.features["source"].names, "stfpm.points")

    @classmethod
    def describe(cls, settings: StfpmSettings) -> str:
        """Name the source."""
        return settings.stfpm.source.name

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        """Train the student, or find it trained."""
        cache, settings = feature_set.features["source"], self.settings.stfpm
        self.size = cache.size
        self.key = content_key(
            source=cache.identity,
            points=settings.points,
            training=settings.training.model_dump(),
            seed=train_context.seed,
            code=code_digest(__name__),
        )
        positions = self._positions

        def run(checkpoint):
            with torch_seed(train_context.seed, "stfpm", "initialisation"):
                student = self.compute.place(self._new_student())
            imitate = self.compute.compiled(student)

            def loss(rows: np.ndarray) -> dict[str, Tensor]:
                source = [self.compute.move(cache.outputs(rows)[i]) for i in positions]
                with self.compute.autocast():
                    found = imitate(self.compute.move(cache.images(rows)))
                return {"total": pyramid_loss(source, found)}

            parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
            metric = "student.{split}.{term}"
            task = TrainingTask("stfpm", student, loss, *parts, names=feature_set.split.name, metric=metric)
            return student, train(task, settings.training, train_context.seed, checkpoint)

        trained = train_once(train_context.models, self.key, run)
        self._take_student(trained.state)
        self.moments = self._measure_moments(feature_set) if settings.normalisation == "per_pixel" else None
        return FitResult(trained.history, trained.seconds, trained.reused, "student")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the student's weights, and the moments that the map is standardised by."""
        return state_of(self.student) | (moments_state({_MAP: self.moments}) if self.moments else {})

    def metadata(self) -> dict[str, Any]:
        """Return nothing more: the source is named beside."""
        return {}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take a student, and moments where the map is standardised."""
        asked = self.settings.stfpm.normalisation
        self.moments = take_map_moments(state, _MAP, self.size, asked, "stfpm.normalisation")
        self._take_student(state)

    def _take_student(self, state: dict[str, Tensor]) -> None:
        self.student = self._new_student()
        self.student.load_state_dict(state)
        self.compute.place(self.student).eval()

    @property
    def methods(self) -> list[str]:
        """The one map."""
        return [_MAP]

    @property
    def image_score(self) -> ImageScore:
        """A rule of the map; published: its maximum."""
        return ImageScore(_MAP, self.settings.stfpm.score, self.settings.stfpm.top_fraction)

    def smoothing(self, method: str) -> SmoothingParameters:
        """Return what the parameters say."""
        return self.settings.stfpm.smoothing

    def cost(self) -> dict[str, float]:
        """Return the student's parameters, and the operations of its forward pass over one image."""
        images = torch.zeros(1, 3, *self.size, device=self.compute.device)
        return {"parameters": count_parameters(self.student), "flops": count_flops(lambda: self.student(images))}

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return the map."""
        found = self._distance(images, outputs)
        return Outputs({}, {_MAP: self.moments.normalise(found) if self.moments else found})

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return what the map is standardised by: moments are those of smoothed maps."""
        settings = self.settings.stfpm
        return {"sigma": settings.smoothing.gaussian_sigma} if settings.normalisation == "per_pixel" else {}

    def _distance(self, images: Tensor, outputs: FrozenOutputs | None) -> Tensor:
        """Return the product of the points' distances, `(B, H, W)`."""
        images = self.compute.move(images)
        source = (self.outputs(images) if outputs is None else outputs)["source"]
        with self.compute.autocast():
            student = self.student(images)
        chosen = [self.compute.move(source[i]) for i in self._positions]
        return pyramid_map(chosen, student, self.size)

    @torch.no_grad()
    def _measure_moments(self, feature_set: FeatureSet) -> PixelStats:
        def map_of(rows: np.ndarray) -> Tensor:
            return self._distance(feature_set.batch(rows), feature_set.outputs(rows))

        sigma = self.settings.stfpm.smoothing.gaussian_sigma
        return measure_smoothed(feature_set.split, map_of, sigma, self.batch_size())

    @property
    def _positions(self) -> list[int]:
        names = tuple(self.references["source"].critical_points)
        return choose_points(self.settings.stfpm.points, names, "stfpm.points")

    def _new_student(self) -> nn.Module:
        """Build the source's architecture up to the last chosen point, with weights of its own."""
        source = self.references["source"]
        student = build_source(source.name).select([source.critical_points[i] for i in self._positions])
        return student.normalise_with(source.mean, source.sd)
