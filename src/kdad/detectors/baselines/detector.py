"""A baseline as a detector: one method of the papers' comparisons, on images and the source's activations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdad.detectors.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.detectors.baselines.image_models import (
    Representation,
    build_detector,
    fit_detector,
    restore_detector,
    state_of_detector,
)
from kdad.detectors.baselines.parameters import BaselineMethodParameters, BaselineSettings
from kdad.detectors.baselines.patch_models import new_patch_model, patches_of, side_by_side
from kdad.detectors.detector import FitResult, FrozenOutputs, Outputs, SourceDetector, TrainContext
from kdad.detectors.learnt import prefixed, state_of, train_once, without_prefix
from kdad.errors import InputError
from kdad.features.cache import overall_sd
from kdad.features.extraction import FeatureSet
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import take_map_moments
from kdad.scoring.smoothing import upsample
from kdad.seeding import derive_seed, numpy_generator
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

MAP = "anomaly"
_BATCH = 16
_VECTOR_BATCH = 256
_DEFAULT_POINTS = 3


class BaselineModel(ABC):
    """What a kind of baseline fits, keeps and says."""

    looks_through_source = True
    lowest = 0.0  # what no value of the map is below

    def __init__(self, detector: "BaselineDetector") -> None:
        self.detector, self.method = detector, detector.method

    @abstractmethod
    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> tuple[pd.DataFrame | None, bool]:
        """Fit; return the loss history, None without one, and whether all was found done."""

    @abstractmethod
    def outputs(self, images: Tensor, outputs: list[Tensor]) -> Outputs:
        """Return what the method says of images, of which the source gives `outputs`."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return what was fitted, as tensors."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take what was fitted."""

    def facts(self) -> dict[str, Any]:
        """Return what else was fitted, as JSON."""
        return {}


class VectorModel(BaselineModel):
    """A library's detector of whole images as vectors."""

    def __init__(self, detector: "BaselineDetector") -> None:
        super().__init__(detector)
        settings = detector.settings.baselines
        self.represent = Representation(self.method.representation, settings.pixel_side, settings.components)
        self.looks_through_source = self.method.representation == "source"

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> tuple[None, bool]:
        rows = feature_set.split.rows("train")
        batches = (rows[start : start + _VECTOR_BATCH] for start in range(0, len(rows), _VECTOR_BATCH))
        raw = [self.represent.raw(feature_set.batch(batch), self._outputs(feature_set, batch)) for batch in batches]
        vectors = self.represent.fit(np.concatenate(raw))
        self.fitted = fit_detector(self.method.detector, vectors, self.method.options, self._seed(train_context.seed))
        self.features = vectors.shape[1]
        self._state = state_of_detector(self.fitted, vectors)
        return None, False

    def outputs(self, images: Tensor, outputs: list[Tensor]) -> Outputs:
        scores = self.fitted(self.represent(self.represent.raw(images, outputs)))
        return Outputs({"score": torch.from_numpy(np.array(scores, dtype=np.float64))}, {})

    def state(self) -> dict[str, Tensor]:
        return prefixed(self.represent.state(), "representation.") | prefixed(self._state, "model.")

    def facts(self) -> dict[str, Any]:
        return {"features": self.features}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.represent.load_state(without_prefix(state, "representation."))
        self._state, self.features = without_prefix(state, "model."), facts["features"]
        given = self.method.detector, self.features, self.method.options, self._seed(facts["seed"])
        self.fitted = restore_detector(*given, self._state)

    def _outputs(self, feature_set: FeatureSet, rows: np.ndarray) -> list[Tensor]:
        return self.detector.scaled(feature_set.outputs(rows)["source"]) if self.looks_through_source else []

    @staticmethod
    def _seed(seed: int) -> int:
        return derive_seed(seed, "baselines")


class PatchMapModel(BaselineModel):
    """A model of patches on the source's activations."""

    def __init__(self, detector: "BaselineDetector") -> None:
        super().__init__(detector)
        self.model = new_patch_model(self.method.map_options)

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> tuple[None, bool]:
        rows = feature_set.split.rows("train")

        def passes():
            for start in range(0, len(rows), _BATCH):
                outputs = feature_set.outputs(rows[start : start + _BATCH])["source"]
                yield patches_of(self._features(self.detector.scaled(outputs))).contiguous().cpu().numpy()

        generator = numpy_generator(train_context.seed, "baselines", self.method.detector)
        self.model.fit(passes, len(rows), generator, derive_seed(train_context.seed, "baselines", "dictionary"))
        return None, False

    @property
    def lowest(self) -> float:
        return self.model.lowest

    def outputs(self, images: Tensor, outputs: list[Tensor]) -> Outputs:
        features = self._features(outputs)
        grid = self.model.score(patches_of(features)).unflatten(1, features.shape[-2:])
        return Outputs({}, {MAP: upsample(grid, self.detector.size)})

    def state(self) -> dict[str, Tensor]:
        return self.model.state()

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.model.load_state(state)

    def _features(self, outputs: list[Tensor]) -> Tensor:
        names = self.detector.points
        chosen = self.detector.settings.baselines.points or names[:_DEFAULT_POINTS]
        return side_by_side(outputs, [position for position, name in enumerate(names) if name in chosen])


class AutoencoderModel(BaselineModel):
    """An autoencoder, whose residual is the map."""

    looks_through_source = False

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> tuple[pd.DataFrame, bool]:
        compute, seed, options = self.detector.compute, train_context.seed, self.method.map_options

        def train(checkpoint):
            network = compute.place(self._new_network(seed))
            history = train_autoencoder(network, feature_set, self._loss, options, compute, seed, checkpoint)
            return network, history

        trained = train_once(train_context.models, self.detector.key, train)
        self.load_state(trained.state, {})
        return trained.history, trained.reused

    def outputs(self, images: Tensor, outputs: list[Tensor]) -> Outputs:
        with self.detector.compute.autocast():
            found = self.network(images)
        return Outputs({}, {MAP: residual(found, images, self._loss)})

    def state(self) -> dict[str, Tensor]:
        return state_of(self.network)

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.network = self._new_network(0)
        self.network.load_state_dict(state)
        self.detector.compute.place(self.network).eval()

    @property
    def _loss(self) -> str:
        return self.method.detector.removesuffix("_autoencoder")

    def _new_network(self, seed: int):
        return new_autoencoder(self._loss, **self.method.map_options.shape, seed=seed)


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
