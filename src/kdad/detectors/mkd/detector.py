"""MKD as a detector: source and cloners, their discrepancy as score and map, its gradient as another map."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdad.content_store import content_key
from kdad.detectors.detector import Detector
from kdad.detectors.learnt import count_flops, count_parameters, state_of, train_once
from kdad.detectors.mkd.attribution import TotalDiscrepancy
from kdad.detectors.mkd.choosing import choose_rules
from kdad.detectors.mkd.cloner import build_cloner
from kdad.detectors.mkd.ensemble import build_cloners, each_cloner, mean_activations
from kdad.detectors.mkd.gradients import GRADIENT_METHODS, Gradients
from kdad.detectors.mkd.normalised_map import NormalisedMap, maps_state, measure_maps, restore_maps
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.mkd.point_map import Discrepancies, PointMap
from kdad.detectors.mkd.rule_choice import RuleChoice
from kdad.detectors.mkd.scores import DETECTION, FORWARD, detection_score
from kdad.detectors.mkd.training import train_cloner
from kdad.detectors.source_system import SourceSystem
from kdad.detectors.workshop import Fitting, Outputs, Raw, RawTensors, Workshop
from kdad.features.cache import overall_sd
from kdad.features.seen import SeenImages
from kdad.networks.points import CriticalPoint, choose_points
from kdad.parameters.scoring import SmoothingParameters
from kdad.provenance import code_digest
from kdad.scoring.image_score import ImageScore
from kdad.scoring.smoothing import smooth
from kdad.scoring.standard import Standard, standardise_scores


class MkdDetector(SourceSystem, Detector):
    """A cloner learns a frozen source's activations at its critical points; where they differ is anomalous.

    Salehi et al. 2021. Raw score: ``total_loss``, L_total (eq. 3). Maps: ``discrepancy``, which localises, and
    ``detection``, which is scored, alone or with the former (one forward pass); ``gradients``, ``smooth_grad``,
    ``guided_backprop`` (section 3.3), ``integrated_gradients``. Of several cloners the mean is compared; a rule may map
    their disagreement.
    """

    system = "mkd"
    Settings = MkdSettings
    choice: RuleChoice | None = None  # of rules by drawn defects

    @classmethod
    def check(cls, settings: MkdSettings, seen: SeenImages) -> None:
        """Raise `InputError` for a critical point that the source does not have."""
        names = seen.features["source"].names
        choose_points(settings.cloner.training_points, names, "cloner.training_points")
        choose_points(settings.scoring.gradient_map.points, names, "scoring.gradient_map.points")
        for path, rule in settings.scoring.every_rule.items():
            choose_points(rule.points, names, f"{path}.points")

    def fit(self, seen: SeenImages, workshop: Workshop) -> Fitting:
        """Train the cloner, or find it trained, and measure what its maps are normalised by."""
        started, settings = perf_counter(), self.settings
        cache = seen.features["source"]
        scaled = settings.features.activation_scaling == "per_point"
        scales = [overall_sd(found) if scaled else 1.0 for found in cache.statistics]
        key = content_key(
            source=cache.identity,
            scaling=settings.features.activation_scaling,
            cloner=settings.cloner.model_dump(),
            seed=workshop.seed,
            code=code_digest("kdad.detectors.mkd.training", "kdad.detectors.mkd.cloner"),
        )
        self._shape(cache.points, cache.size, scales, workshop.seed)
        positions = choose_points(settings.cloner.training_points, cache.names, "cloner.training_points")

        def train(checkpoint):
            cloner = self.compute.place(self._new_cloner())
            shared = (seen, scales, positions, settings.cloner, self.compute, workshop.seed)
            return cloner, train_cloner(cloner, *shared, checkpoint)

        trained = train_once(workshop.models, key, train)
        self.key = key
        self._take_cloner(trained.state)
        if settings.scoring.choose == "drawn_defects":  # from now on it judges by what is chosen
            self._take_choice(choose_rules(settings.scoring, seen, self._discrepancies, cache.names, self.seed))
            self._shape(cache.points, cache.size, scales, self.seed)
        self._measure_maps(seen)
        seconds = perf_counter() - started if not trained.reused else trained.seconds
        return Fitting(trained.history, seconds, trained.reused, "cloner")

    def learnt_state(self) -> dict[str, Tensor]:
        """Return the cloners' weights, and what maps keep of normal images as tensors."""
        return state_of(self.cloner) | maps_state(self._normalised) | self.gradients.state()

    def learnt_facts(self) -> dict[str, Any]:
        """Return points, scales, what maps and scores are normalised by, and the seed of SmoothGrad's noise."""
        return {
            "points": [asdict(point) for point in self.points],
            "scales": self.scales,
            "point_means": {name: made.means for name, made in self._normalised.items()},
            "score_standards": {name: found.model_dump() for name, found in self.standards.items()},
            "seed": self.seed,
            "choice": self.choice and self.choice.model_dump(),
        }

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take a cloner and its scales."""
        points = [CriticalPoint(**point) for point in facts["points"]]
        if not len(points) == len(facts["scales"]):
            raise ValueError(f"it has {len(facts['scales'])} scales for {len(points)} critical points")
        if facts.get("choice"):
            self._take_choice(RuleChoice.model_validate(facts["choice"]))
        self._shape(points, self.size, facts["scales"], facts["seed"])
        restore_maps(self._normalised, facts["point_means"], state, self.size)
        summed = self.point_maps if self._sums_maps else ()
        self.standards = {name: Standard.model_validate(facts["score_standards"][name]) for name in summed}
        self.gradients.restore(state)
        self._take_cloner(state)

    @property
    def methods(self) -> list[str]:
        """The localisation methods of the parameters."""
        return list(self.settings.scoring.localisation)

    @property
    def tried_rules(self) -> list[dict[str, Any]]:
        """The fixed rules and candidates that were compared by drawn defects."""
        return [] if self.choice is None else [tried.model_dump() for tried in self.choice.tried]

    @property
    def image_score(self) -> ImageScore:
        """L_total, a number of the detection map, or the sum of those of both forward maps."""
        return detection_score(self.settings.scoring.detection, self.standards)

    def smoothing(self, method: str) -> SmoothingParameters:
        """Return what the parameters say; the forward map passes as it is where they say nothing."""
        if method == DETECTION:
            return self.settings.scoring.detection.smoothing
        return self.settings.scoring.smoothing.get(method, SmoothingParameters())

    def is_costly(self, method: str) -> bool:
        """Gradients take a backward pass through source and cloner."""
        return method in GRADIENT_METHODS

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return the points and forms of the maps."""
        scoring = self.settings.scoring
        costly = list(filter(self.is_costly, methods))
        if costly:
            return self.gradients.maps[costly[0]].facts()
        return {"points": scoring.detection.points} | {name: made.facts() for name, made in self.point_maps.items()}

    def batch_size(self, method: str | None = None) -> int:
        """Return fewer images where gradients are kept."""
        return 32 if method is None or not self.is_costly(method) else self.settings.scoring.gradient_map.batch_size

    def cost(self) -> dict[str, float]:
        """Return the cloners' parameters, and the operations of their forward passes over one image."""
        images = torch.zeros(1, 3, *self.size, device=self.compute.device)
        return {"parameters": count_parameters(self.cloner), "flops": count_flops(lambda: self.cloner(images))}

    def maps(self, images: Tensor, outputs: Outputs | None = None, methods: Sequence[str] | None = None) -> Raw:
        """Return L_total as ``total_loss``, and maps by the methods."""
        methods = self.needed_methods if methods is None else methods
        images = self.compute.move(images)
        found: dict[str, np.ndarray] = {}
        scores: dict[str, np.ndarray] = {}
        forward = [method for method in methods if not self.is_costly(method)]
        if not methods or forward or self.image_score.rule == "raw":
            raw = self._forward(images, outputs, forward)
            scores, found = raw.scores, raw.maps
        for method in methods:
            if self.is_costly(method):
                found[method] = self.gradients.map(method, images).cpu().numpy()
        return Raw(scores, {method: found[method] for method in methods})

    def raw_tensors(self, images: Tensor, outputs: Outputs | None, methods: Sequence[str]) -> RawTensors:
        """Return L_total and the maps that one forward pass gives; raises `InputError` for a gradient's."""
        if any(map(self.is_costly, methods)):
            return super().raw_tensors(images, outputs, methods)
        known = self._discrepancies(images, outputs)
        maps = {name: self.point_maps[name].map(known) for name in methods}
        return RawTensors({"total_loss": known.total(self._choose("detection"))}, maps)

    @torch.no_grad()
    def _forward(self, images: Tensor, outputs: Outputs | None, methods: Sequence[str]) -> Raw:
        return self.raw_tensors(images, outputs, methods).numbers()

    def _discrepancies(self, images: Tensor, outputs: Outputs | None) -> Discrepancies:
        """Return what the scaled source and the cloners show of images."""
        raw = (self.outputs(images) if outputs is None else outputs)["source"]
        source = [self.compute.move(found / scale) for found, scale in zip(raw, self.scales, strict=True)]
        with self.compute.autocast():
            cloners = each_cloner(self.cloner, self.compute.move(images))
        return Discrepancies(source, mean_activations(cloners), self.settings.cloner.loss, cloners)

    def _take_choice(self, choice: RuleChoice) -> None:
        self.choice, self.settings = choice, choice.apply(self.settings)

    @torch.no_grad()
    def _measure_maps(self, seen: SeenImages) -> None:
        """Measure on normal images what maps are normalised by."""

        def discrepancies(rows: np.ndarray) -> Discrepancies:
            return self._discrepancies(seen.batch(rows), seen.outputs(rows))

        measure_maps(list(self.point_maps.values()), seen.split, discrepancies, self.batch_size())
        self.gradients.measure(seen, self.compute)
        if self._sums_maps:
            fraction = self.settings.scoring.detection.top_fraction
            smoothed = partial(self._smoothed_maps, seen)
            self.standards = standardise_scores(seen.split, smoothed, "map_top_mean", fraction, self.batch_size())

    def _smoothed_maps(self, seen: SeenImages, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return both forward maps of the images at some rows, as they are scored."""
        maps = self._forward(seen.batch(rows), seen.outputs(rows), list(self.point_maps)).maps
        return {name: smooth(found, self.smoothing(name)) for name, found in maps.items()}

    def _shape(self, points: list[CriticalPoint], size: tuple[int, int], scales: list[float], seed: int) -> None:
        self.points, self.size, self.scales, self.seed = points, size, scales, seed
        self.standards: dict[str, Standard] = {}
        scoring = self.settings.scoring
        scored = {} if scoring.detection.score == "total_loss" else {DETECTION: "detection"}
        self.point_maps = {
            name: PointMap(getattr(scoring, block), self._choose(block), size, self.smoothing(name).gaussian_sigma)
            for name, block in ({FORWARD: "forward_map"} | scored).items()
        }
        self.gradients = Gradients(scoring, self._choose("gradient_map"), size, self._total, seed)

    @property
    def _sums_maps(self) -> bool:
        return self.settings.scoring.detection.score == "both_maps_top_mean"

    def _choose(self, block: str) -> list[int]:
        choice = getattr(self.settings.scoring, block).points
        return choose_points(choice, tuple(point.name for point in self.points), f"scoring.{block}.points")

    def _new_cloner(self) -> torch.nn.Module:
        source = self.references["source"]
        shape = {"points": self.points, "size": self.size, "input_normalisation": (source.mean, source.sd)}
        build = partial(build_cloner, source_name=source.name, **shape)
        return build_cloners(self.settings.cloner, build, self.seed)

    def _take_cloner(self, state: dict[str, Tensor]) -> None:
        self.cloner = self._new_cloner()
        self.cloner.load_state_dict(state)
        self.compute.place(self.cloner).eval()

    @property
    def _normalised(self) -> dict[str, NormalisedMap]:
        return self.point_maps | self.gradients.normalised

    def _total(self, positions: list[int]) -> TotalDiscrepancy:
        source, guided = self.frozen["source"].module, self.settings.scoring.gradient_map.guided
        shared = (positions, self.settings.cloner.loss, self.compute, guided)
        return TotalDiscrepancy(source, self.cloner, self.scales, *shared).eval().requires_grad_(False)
