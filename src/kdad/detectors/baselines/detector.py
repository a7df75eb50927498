"""A baseline as a detector: one method of the papers' comparisons, on images and the source's activations."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from kdad.detectors.baselines.image_models import build_detector
from kdad.detectors.baselines.models import MAP, AutoencoderModel, BaselineModel, PatchMapModel, VectorModel
from kdad.detectors.baselines.parameters import BaselineMethodParameters, BaselineSettings
from kdad.detectors.detector import FitResult, FrozenOutputs, Outputs, SourceDetector, TrainContext
from kdad.errors import InputError
from kdad.features.cache import overall_sd
from kdad.features.extraction import FeatureSet
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import take_map_moments
from kdad.scoring.smoothing import ImageScore
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

_BATCH = 16
_VECTOR_BATCH = 256


class BaselineDetector(SourceDetector):
    """One method of the ``baselines:`` block: raw score ``score``, or a map ``anomaly`` of which a score is taken."""

    system = "baselines"
    Settings = BaselineSettings

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.method: BaselineMethodParameters = self.settings.baselines.only
        kinds = {"images": AutoencoderModel, "patches": PatchMapModel}
        self.half: BaselineModel = kinds.get(self.method.seen, VectorModel)(self)

    @classmethod
    def check_inputs(cls, settings: BaselineSettings, feature_set: FeatureSet) -> None:
        super().check_inputs(settings, feature_set)
        images = feature_set.images
        ((name, method),) = settings.baselines.present.items()
        try:
            if not method.maps:
                build_detector(method.detector, (2, 2), method.options, 0)
            elif method.seen == "images" and any(side % 2**method.map_options.depth for side in images.size):
                step = 2**method.map_options.depth
                raise InputError(
                    f"depth {method.map_options.depth} needs image sides that {step} divides, not {images.size}; "
                    "change dataset.image_size or the depth"
                )
        except InputError as error:
            raise InputError(f"baselines.methods.{name}: {error}") from None

    @classmethod
    def label(cls, settings: BaselineSettings) -> dict[str, str]:
        """Return the method's detector, what it sees, and whether asked-for standardising has a map to act on."""
        method, sees = settings.baselines.only, settings.baselines.only.seen
        if settings.baselines.normalisation == "per_pixel":
            sees += ", map standardised at each position" if method.maps else ", no map to standardise"
        return {"detector": method.detector, "sees": sees}

    @classmethod
    def is_stochastic(cls, settings: BaselineSettings) -> bool:
        return settings.baselines.only.is_stochastic

    @classmethod
    def check(cls, settings: BaselineSettings, feature_set: FeatureSet) -> None:
        names = feature_set.features["source"].names
        for name in settings.baselines.points or []:
            if name not in names:
                raise InputError(f"baselines.points names '{name}'; the source has {', '.join(names)}")

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        started, cache = perf_counter(), feature_set.features["source"]
        self.size, self.points, self.seed = cache.size, list(cache.names), train_context.seed
        scaling = self.settings.features.activation_scaling
        self.scales = [overall_sd(found) if scaling == "per_point" else 1.0 for found in cache.statistics]
        common = self.settings.baselines.model_dump(include={"pixel_side", "components", "points"})
        self.key = content_key(
            features=cache.identity,
            scaling=scaling,
            detector=self.method.detector,
            sees=self.method.seen,
            options=self.method.complete_options,
            common=common,
            seed=train_context.seed if self.method.is_stochastic else None,
            code=code_digest(__name__),
        )
        try:
            history, reused = self.half.fit(feature_set, train_context)
            if self._at_positions:
                sigma = self.settings.baselines.smoothing.gaussian_sigma
                self.moments = self.measure_moments(feature_set, lambda *given: self._plain(*given).maps[MAP], sigma)
        except InputError:
            raise
        except Exception as error:  # whatever the library meets in these images
            ((name, _),) = self.settings.baselines.present.items()
            raise InputError(
                f"baselines.methods.{name} failed ({type(error).__name__}: {error}); change its options, or leave it "
                f"out with {name}: null"
            ) from error
        return FitResult(history, perf_counter() - started, reused)

    def state_dict(self) -> dict[str, Tensor]:
        return self.half.state() | (self.moments.state(MAP) if self.moments else {})

    def metadata(self) -> dict[str, Any]:
        return {"points": self.points, "scales": self.scales, "seed": self.seed, **self.half.facts()}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        asked = "per_pixel" if self._at_positions else "none"
        self.moments = take_map_moments(state, MAP, self.size, asked, "baselines.normalisation")
        self.points, self.scales, self.seed = facts["points"], facts["scales"], facts["seed"]
        if len(self.points) != len(self.scales):
            raise ValueError(f"it has {len(self.scales)} scales for {len(self.points)} critical points")
        self.half.load_state(state, facts)

    @property
    def methods(self) -> list[str]:
        return [MAP] if self.method.maps else []

    @property
    def image_score(self) -> ImageScore:
        if not self.method.maps:
            return ImageScore("score", "raw")
        return ImageScore(MAP, "map_top_mean", self.settings.baselines.top_fraction)

    @property
    def lowest(self) -> float:
        """What no value of its map is below."""
        return self.half.lowest

    def smoothing(self, method: str) -> SmoothingParameters:
        return self.settings.baselines.smoothing

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return what the map is standardised by: moments are those of smoothed maps."""
        sigma = self.settings.baselines.smoothing.gaussian_sigma
        return {"normalisation": "per_pixel", "sigma": sigma} if self._at_positions else {}

    def batch_size(self, method: str | None = None) -> int:
        return _BATCH if self.method.maps else _VECTOR_BATCH

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        plain = self._plain(images, outputs)
        return Outputs(plain.scores, {MAP: self.moments.normalise(plain.maps[MAP])}) if self.moments else plain

    def _plain(self, images: Tensor, outputs: FrozenOutputs | None) -> Outputs:
        """Return the raw score, or the map before it is standardised."""
        images = self.compute.move(images)
        outputs = self.outputs(images) if outputs is None and self.half.looks_through_source else outputs
        return self.half.outputs(images, self.scaled(outputs["source"]) if outputs else [])

    @property
    def is_exportable(self) -> bool:
        """Not of another library: those score whole images; the SSIM of torchmetrics is bound to a number of images."""
        return self.method.maps and self.method.detector != "ssim_autoencoder"

    @property
    def _at_positions(self) -> bool:
        """Whether there is a map, and it is to be standardised."""
        return self.method.maps and self.settings.baselines.normalisation == "per_pixel"

    def describe_itself(self) -> str:
        """Name the method in a message."""
        return f"the baseline '{next(iter(self.settings.baselines.present))}'"

    def scaled(self, outputs: list[Tensor]) -> list[Tensor]:
        """Return the source's activations, each point's divided by its scale."""
        return [found / scale for found, scale in zip(outputs, self.scales, strict=True)]
