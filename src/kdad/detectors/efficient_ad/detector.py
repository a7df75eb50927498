"""EfficientAD as a detector: where a student is far from its teacher, or from an autoencoder."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdad.detectors.detector import Detector, FitResult, FrozenOutputs, Outputs, TrainContext
from kdad.detectors.efficient_ad.parameters import RECEPTIVE_FIELD, STRIDE, EfficientAdParameters, EfficientAdSettings
from kdad.detectors.efficient_ad.training import crop_side, new_networks, train_networks
from kdad.detectors.learnt import count_flops, count_parameters, state_of, train_once
from kdad.detectors.uninformed_students.maps import images_in, spread_grid
from kdad.detectors.uninformed_students.students import Standardisation
from kdad.detectors.uninformed_students.teacher import TeacherReference, pretrain, reference_teacher
from kdad.errors import InputError
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.natural_pool import NaturalPool
from kdad.images.splits import Split
from kdad.networks.parameters import smallest_image
from kdad.parameters.strict import StrictModel
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import measured_rows
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

_TEACHER = f"p{RECEPTIVE_FIELD}"
_PARTS = ("teacher_student", "autoencoder_student")
#: Of a map's values for normal images; the first becomes 0, the second 0.1 (Batzner et al. 2024, section 3.4).
_QUANTILES, _BETWEEN = (0.9, 0.995), 0.1
_PIXELS = 4 * 128 * 128  # of the images that are mapped at once


class MapQuantiles(StrictModel):
    """Two quantiles of a map's values for training images: what becomes 0, and what becomes 0.1."""

    low: float = Field(description="the quantile .9")
    high: float = Field(description="the quantile .995, above it")

    @classmethod
    def of(cls, values: np.ndarray) -> "MapQuantiles":
        """Return those of all values; of a map that is constant the second is 1 higher."""
        low, high = np.quantile(values, _QUANTILES).tolist()
        # Unchecked: of values that are not finite it is not either, and whoever maps images names the one.
        return cls.model_construct(low=low, high=high if high != low else low + 1)

    def normalise(self, values: Tensor) -> Tensor:
        """Return values on the scale that both maps share."""
        return (values - self.low) * (_BETWEEN / (self.high - self.low))

    @model_validator(mode="after")
    def _rise(self) -> "MapQuantiles":
        if not self.low < self.high:
            raise ValueError(f"it has quantiles of a map that do not rise: {self.low} and {self.high}")
        return self


class EfficientAdDetector(Detector):
    """A student learns a patch teacher's descriptors of normal images, and an autoencoder their place in the whole.

    Batzner et al. 2024, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies". Maps:
    ``combined``, the mean of ``teacher_student`` and ``autoencoder_student`` on one scale; without an autoencoder
    ``combined`` is the first.
    """

    system = "efficient_ad"
    Settings = EfficientAdSettings
    Reference = TeacherReference

    @classmethod
    def frozen_networks(
        cls, settings: EfficientAdSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        teacher = settings.efficient_ad.teacher
        trained = pretrain(teacher, [RECEPTIVE_FIELD], train_context)[RECEPTIVE_FIELD]
        return {_TEACHER: reference_teacher(trained, RECEPTIVE_FIELD, teacher, STRIDE)}

    @classmethod
    def extraction_options(cls, settings: EfficientAdSettings, size: tuple[int, int]) -> ExtractionOptions:
        return ExtractionOptions(2 * images_in(_PIXELS, size), None)

    @classmethod
    def check_inputs(cls, settings: EfficientAdSettings, feature_set: FeatureSet) -> None:
        super().check_inputs(settings, feature_set)
        (height, width), least = feature_set.images.size, smallest_image(RECEPTIVE_FIELD)
        if min(height, width) < least:
            raise InputError(
                f"images of {height} x {width} pixels are too small for efficient_ad, whose patches of "
                f"{RECEPTIVE_FIELD} pixels need {least} a side; set a larger dataset.image_size"
            )
        NaturalPool(settings.efficient_ad.teacher.pool)

    @classmethod
    def describe(cls, settings: EfficientAdSettings) -> str:
        teacher = settings.efficient_ad.teacher
        return f"teacher of {teacher.source.name if teacher.knowledge_weight else 'no source'}"

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        cache, own, seed = feature_set.features[_TEACHER], self.block, train_context.seed
        self.size = cache.size
        side = crop_side(own, self.size)
        self.key = content_key(
            descriptors=cache.identity,
            learns=own.model_dump(include={"hard_quantile", "penalty_weight", "autoencoder", "training"}),
            natural=(NaturalPool(own.teacher.pool).fingerprint(), own.teacher.dense.zoom, side)
            if own.penalty_weight
            else None,
            seed=seed,
            code=code_digest("kdad.detectors.efficient_ad.training"),
        )
        standardise = Standardisation.of(cache.statistics[0], self.compute.device)

        def run(checkpoint):
            networks = self.compute.place(new_networks(own, self.size, seed))
            shared = (self.frozen[_TEACHER], feature_set, standardise, own, self.compute, seed)
            return networks, train_networks(networks, *shared, checkpoint)

        trained = train_once(train_context.models, self.key, run)
        self._take(trained.state, standardise)
        self.quantiles = measure_quantiles(
            feature_set.split,
            lambda rows: self._grid_maps(feature_set.batch(rows), feature_set.outputs(rows)),
            self.batch_size(),
        )
        return FitResult(trained.history, trained.seconds, trained.reused, "student")

    def state_dict(self) -> dict[str, Tensor]:
        kept = {"target_mean": self.standardise.mean, "target_sd": self.standardise.sd}
        return state_of(self.networks) | kept

    def metadata(self) -> dict[str, Any]:
        return {"map_quantiles": {part: found.model_dump() for part, found in self.quantiles.items()}}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        kept = facts["map_quantiles"]
        self.quantiles = {part: MapQuantiles.model_validate(kept[part]) for part in self._parts}
        moments = (state.pop(f"target_{name}").to(self.compute.device) for name in ("mean", "sd"))
        self._take(state, Standardisation(*moments))

    @property
    def block(self) -> EfficientAdParameters:
        """The system's own parameters."""
        return self.settings.efficient_ad

    @property
    def methods(self) -> list[str]:
        return ["combined", *(self._parts if self.block.autoencoder else [])]

    @property
    def image_score(self) -> ImageScore:
        return ImageScore("combined", self.block.score, self.block.top_fraction)

    def smoothing(self, method: str) -> SmoothingParameters:
        return self.block.smoothing

    def batch_size(self, method: str | None = None) -> int:
        return images_in(_PIXELS, self.size)

    def cost(self) -> dict[str, float]:
        images = torch.zeros(1, 3, *self.size, device=self.compute.device)
        teacher = self.frozen[_TEACHER].module
        flops = count_flops(lambda: teacher(images)) + count_flops(lambda: self._predict(images))
        return {"parameters": count_parameters(self.networks), "flops": flops}

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return maps by the methods; there is no raw score."""
        parts = {
            part: self.quantiles[part].normalise(values) for part, values in self._grid_maps(images, outputs).items()
        }
        parts["combined"] = sum(parts.values()) / len(parts)
        asked = self.needed_methods if methods is None else methods
        return Outputs({}, {method: spread_grid(parts[method], STRIDE, self.size) for method in asked})

    @torch.no_grad()
    def _grid_maps(self, images: Tensor, outputs: FrozenOutputs | None) -> dict[str, Tensor]:
        """Return the squared distances by part, each a mean over channels, on the grid of descriptors `(B, h, w)`."""
        images = self.compute.move(images)
        known = (self.outputs(images) if outputs is None else outputs)[_TEACHER][0]
        targets, depth = self.standardise(self.compute.move(known)), self.block.teacher.depth
        predicted, reconstructed = self._predict(images)
        maps = {_PARTS[0]: (predicted[:, :depth] - targets).square().mean(1)}
        if reconstructed is not None:
            maps[_PARTS[1]] = (predicted[:, depth:] - reconstructed).square().mean(1)
        return maps

    def _predict(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        with self.compute.autocast():
            predicted = self.networks["student"].dense(images, STRIDE)
            found = self.networks["autoencoder"](images) if self.block.autoencoder else None
        return predicted.float(), None if found is None else found.float()

    def _take(self, state: dict[str, Tensor], standardise: Standardisation) -> None:
        self.networks: nn.ModuleDict = new_networks(self.block, self.size, 0)
        self.networks.load_state_dict(state)
        self.compute.place(self.networks).eval()
        self.standardise = standardise

    @property
    def _parts(self) -> Sequence[str]:
        return _PARTS if self.block.autoencoder else _PARTS[:1]


def measure_quantiles(
    split: Split, maps_of: Callable[[np.ndarray], dict[str, Tensor]], batch_size: int
) -> dict[str, MapQuantiles]:
    """Return the quantiles of maps by name over the training images; `maps_of` gives those of images at some rows.

    Published are those of validation images, which set the threshold here and may shape no score.
    """
    rows, values = measured_rows(split), {}
    for batch in np.array_split(rows, ceil(len(rows) / batch_size)):
        for name, maps in maps_of(batch).items():
            values.setdefault(name, []).append(maps.cpu().numpy().ravel())
    return {name: MapQuantiles.of(np.concatenate(found)) for name, found in values.items()}
