"""MKD as a detector: source and cloner, their discrepancy as map and score, its gradient as another map."""

from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from kdad.detectors.detector import FitResult, FrozenOutputs, Outputs, SourceDetector, TrainContext
from kdad.detectors.learnt import count_flops, count_parameters, state_of, train_once
from kdad.detectors.mkd.cloner import build_cloner, train_cloner
from kdad.detectors.mkd.discrepancy import discrepancy_terms, forward_map
from kdad.detectors.mkd.gradients import GRADIENT_METHODS, TotalDiscrepancy, gradient_maps, measure_mean_image
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.features.cache import overall_sd
from kdad.features.extraction import FeatureSet
from kdad.networks.fusion import for_predicting
from kdad.networks.source import CriticalPoint, choose_points
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import take_map_moments
from kdad.seeding import torch_seed
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

_FORWARD, _DETECTION = "discrepancy", "detection"
_SCORE, _MEAN_IMAGE = "total_loss", "mean_image"


class MkdDetector(SourceDetector):
    """A cloner learns a frozen source's activations at its critical points; where they differ is anomalous.

    Salehi et al. 2021. Raw score: ``total_loss``, L_total (eq. 3). Maps: ``discrepancy``, the forward map;
    ``detection``, the same standardised at each position, which is scored and not shown; ``gradients``,
    ``smooth_grad``, ``guided_backprop`` (section 3.3), ``integrated_gradients``.
    """

    system = "mkd"
    Settings = MkdSettings

    @classmethod
    def check(cls, settings: MkdSettings, feature_set: FeatureSet) -> None:
        names = feature_set.features["source"].names
        choose_points(settings.cloner.training_points, names, "cloner.training_points")
        for block in ("detection", "forward_map", "gradient_map"):
            choose_points(getattr(settings.scoring, block).points, names, f"scoring.{block}.points")

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        started, settings = perf_counter(), self.settings
        cache = feature_set.features["source"]
        scaled = settings.features.activation_scaling == "per_point"
        scales = [overall_sd(moments) if scaled else 1.0 for moments in cache.statistics]
        self.key = content_key(
            source=cache.identity,
            scaling=settings.features.activation_scaling,
            cloner=settings.cloner.model_dump(),
            seed=train_context.seed,
            code=code_digest("kdad.detectors.mkd.cloner"),
        )
        self._shape(cache.points, cache.size, scales, train_context.seed)
        positions = choose_points(settings.cloner.training_points, cache.names, "cloner.training_points")

        def train(checkpoint):
            with torch_seed(self.seed, "cloner", "initialisation"):
                cloner = self.compute.place(self._new_cloner())
            shared = (feature_set, scales, positions, settings.cloner, self.compute, train_context.seed)
            return cloner, train_cloner(cloner, *shared, checkpoint)

        trained = train_once(train_context.models, self.key, train)
        self._take_cloner(trained.state)
        if self._at_positions:
            sigma = self.smoothing(_DETECTION).gaussian_sigma
            self.moments = self.measure_moments(
                feature_set, lambda *given: self._forward_map(*self._activations(*given)), sigma
            )
        if self._needs_mean_image:
            self.mean_image = measure_mean_image(feature_set, settings.scoring.gradient_map.batch_size)
        seconds = perf_counter() - started if not trained.reused else trained.seconds
        return FitResult(trained.history, seconds, trained.reused, "cloner")

    def state_dict(self) -> dict[str, Tensor]:
        state = state_of(self.cloner) | (self.moments.state(_DETECTION) if self.moments else {})
        return state if self.mean_image is None else state | {_MEAN_IMAGE: self.mean_image}

    def metadata(self) -> dict[str, Any]:
        """Return points, scales, and the seed of SmoothGrad's noise."""
        return {"points": [asdict(point) for point in self.points], "scales": self.scales, "seed": self.seed}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        points = [CriticalPoint(**point) for point in facts["points"]]
        if not len(points) == len(facts["scales"]):
            raise ValueError(f"it has {len(facts['scales'])} scales for {len(points)} critical points")
        self._shape(points, self.size, facts["scales"], facts["seed"])
        asked = "per_pixel" if self._at_positions else "none"
        self.moments = take_map_moments(state, _DETECTION, self.size, asked, "scoring.detection.normalisation")
        self.mean_image = state.pop(_MEAN_IMAGE, None)
        if self._needs_mean_image and (self.mean_image is None or tuple(self.mean_image.shape) != (3, *self.size)):
            shape = None if self.mean_image is None else tuple(self.mean_image.shape)
            raise ValueError(f"its mean image is {shape}, and integrated gradients need one of {(3, *self.size)}")
        self._take_cloner(state)

    @property
    def methods(self) -> list[str]:
        return list(self.settings.scoring.localisation)

    @property
    def image_score(self) -> ImageScore:
        rule = self.settings.scoring.detection
        if rule.score == _SCORE:
            return ImageScore(_SCORE, "raw")
        return ImageScore(_DETECTION if self._at_positions else _FORWARD, rule.score, rule.top_fraction)

    @property
    def depth(self) -> int:
        blocks = ["forward_map", "detection"] if self.image_score.rule == "raw" else ["forward_map"]
        return 1 + max(point for block in blocks for point in self._choose(block))

    def smoothing(self, method: str) -> SmoothingParameters:
        named = _FORWARD if method == _DETECTION else method
        return self.settings.scoring.smoothing.get(named, SmoothingParameters())

    def is_costly(self, method: str) -> bool:
        """Gradients take a backward pass through source and cloner."""
        return method in GRADIENT_METHODS

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return the points and forms of the maps; moments are those of smoothed maps."""
        scoring = self.settings.scoring
        if any(map(self.is_costly, methods)):
            return {"gradient_map": scoring.gradient_map.model_dump()}
        sigma = self.smoothing(_DETECTION).gaussian_sigma if self._at_positions else None
        return {"scored_points": scoring.detection.points, "moments_sigma": sigma} | scoring.forward_map.model_dump()

    def batch_size(self, method: str | None = None) -> int:
        return 32 if method is None or not self.is_costly(method) else self.settings.scoring.gradient_map.batch_size

    def cost(self) -> dict[str, float]:
        images = torch.zeros(1, 3, *self.size, device=self.compute.device)
        return {"parameters": count_parameters(self.cloner), "flops": count_flops(lambda: self.cloner(images))}

    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return L_total as ``total_loss``, where outputs reach its points, and maps by the methods."""
        methods = self.needed_methods if methods is None else methods
        images = self.compute.move(images)
        forward = [method for method in methods if not self.is_costly(method)]
        scores, maps = {}, {}
        if not methods or forward or self.image_score.rule == "raw":
            with torch.no_grad():
                scores, maps = self._forward_pass(images, outputs, forward)
        maps |= {method: self._gradient_map(method, images) for method in methods if self.is_costly(method)}
        return Outputs(scores, {method: maps[method] for method in methods})

    def _forward_pass(
        self, images: Tensor, outputs: FrozenOutputs | None, methods: Sequence[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        source, cloner = self._activations(images, outputs)
        scored, scores, maps = self._choose("detection"), {}, {}
        if max(scored) < len(source):
            pairs = [source[i] for i in scored], [cloner[i] for i in scored]
            scores[_SCORE] = discrepancy_terms(*pairs, self.settings.cloner.loss)["total"]
        if methods:
            maps[_FORWARD] = self._forward_map(source, cloner)
        if _DETECTION in methods:
            maps[_DETECTION] = self.moments.normalise(maps[_FORWARD])
        return scores, maps

    def _activations(self, images: Tensor, outputs: FrozenOutputs | None) -> tuple[list[Tensor], list[Tensor]]:
        """Return the activations `(B, C_i, h_i, w_i)` of the scaled source and of the cloner."""
        raw = (self.outputs(images) if outputs is None else outputs)["source"]
        source = [self.compute.move(one / scale) for one, scale in zip(raw, self.scales, strict=False)]
        with self.compute.autocast():
            return source, self._predicting(self.compute.move(images), len(source))

    def _forward_map(self, source: list[Tensor], cloner: list[Tensor]) -> Tensor:
        chosen, rule = self._choose("forward_map"), self.settings.scoring.forward_map
        pairs = [source[i] for i in chosen], [cloner[i] for i in chosen]
        return forward_map(*pairs, rule, self.settings.cloner.loss, self.size)

    def _gradient_map(self, method: str, images: Tensor) -> Tensor:
        rule, positions = self.settings.scoring.gradient_map, self._choose("gradient_map")
        shared = (positions, self.settings.cloner.loss, self.compute)
        total = TotalDiscrepancy(self.frozen["source"].module, self.cloner, self.scales, *shared)
        with torch.enable_grad():
            total.eval().requires_grad_(False)
            return gradient_maps(total, images, method, rule, self.seed, self.mean_image)

    def _shape(self, points: list[CriticalPoint], size: tuple[int, int], scales: list[float], seed: int) -> None:
        self.points, self.size, self.scales, self.seed = points, size, scales, seed
        self.moments = None
        self.mean_image: Tensor | None = None

    @property
    def _at_positions(self) -> bool:
        detection = self.settings.scoring.detection
        return detection.normalisation == "per_pixel" and detection.score != _SCORE

    @property
    def _needs_mean_image(self) -> bool:
        return "integrated_gradients" in self.methods

    def _choose(self, block: str) -> list[int]:
        choice = getattr(self.settings.scoring, block).points
        return choose_points(choice, tuple(point.name for point in self.points), f"scoring.{block}.points")

    def _new_cloner(self) -> nn.Module:
        source, architecture = self.references["source"], self.settings.cloner.architecture
        return build_cloner(architecture, source.name, self.points, self.size, (source.mean, source.sd))

    def _take_cloner(self, state: dict[str, Tensor]) -> None:
        self.cloner = self._new_cloner()
        self.cloner.load_state_dict(state)
        self._predicting = for_predicting(self.compute.place(self.cloner).eval(), self.compute)
