"""A baseline as a detector: one method of the papers' comparisons, on images and the source's activations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.content_store import content_key
from kdad.detectors.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.detectors.baselines.image_models import (
    build_detector,
    fit_detector,
    restore_detector,
    state_of_detector,
)
from kdad.detectors.baselines.parameters import BaselineMethodParameters, BaselineSettings
from kdad.detectors.baselines.patch_models import new_patch_model, patches_of, side_by_side
from kdad.detectors.baselines.representations import Representation
from kdad.detectors.detector import Detector, Fitting, Outputs, Raw, Workshop
from kdad.detectors.learnt import prefixed, state_of, train_once, without_prefix
from kdad.errors import InputError
from kdad.features.cache import overall_sd
from kdad.features.network import FrozenReference
from kdad.features.seen import Passage, SeenImages
from kdad.features.source import SourceReference, reference_source
from kdad.parameters.scoring import SmoothingParameters
from kdad.parameters.strict import nearest_name
from kdad.provenance import code_digest
from kdad.scoring.image_score import ImageScore
from kdad.seeding import derive_seed, numpy_generator

_BATCH = 16
_VECTOR_BATCH = 256
_DEFAULT_POINTS = 3
_MAP = "anomaly"


class BaselineDetector(Detector):
    """One method of the ``baselines:`` block: raw score ``score``, or a map ``anomaly`` of which a score is taken."""

    system = "baselines"
    Settings = BaselineSettings
    Reference = SourceReference

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.method: BaselineMethodParameters = self.settings.baselines.only
        kinds = {"images": _Autoencoder, "patches": _Patches}
        self.half: _LearntHalf = kinds.get(self.method.seen, _Vectors)(self)

    @classmethod
    def choose(cls, blocks: dict[str, Any], variant: str, where: str) -> dict[str, Any] | None:
        """Return the blocks with one method alone: what others are set to is nothing to it."""
        methods = blocks["baselines"]["methods"]
        if variant not in methods:
            raise InputError(f"{where}: baselines.methods has no '{variant}'{nearest_name(variant, list(methods))}")
        if methods[variant] is None:
            return None
        return blocks | {"baselines": blocks["baselines"] | {"methods": {variant: methods[variant]}}}

    @classmethod
    def refer(cls, settings: BaselineSettings, seen: SeenImages, workshop: Workshop) -> dict[str, FrozenReference]:
        """Return the source."""
        return {"source": reference_source(settings.source, seen, workshop.models, workshop.statistics)}

    @classmethod
    def passage(cls, settings: BaselineSettings, size: tuple[int, int]) -> Passage:
        """Return how many images the source sees at once."""
        return Passage(settings.features.batch_size)

    @classmethod
    def check_inputs(cls, settings: BaselineSettings, seen: SeenImages) -> None:
        """Raise `InputError`, naming the field, for options that do not fit the images or the library."""
        super().check_inputs(settings, seen)
        images = seen.images
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
        """Return the method's detector, and what it sees."""
        return {"detector": settings.baselines.only.detector, "sees": settings.baselines.only.seen}

    @classmethod
    def draws(cls, settings: BaselineSettings) -> bool:
        """Tell whether the method draws anything at random."""
        return settings.baselines.only.draws

    @classmethod
    def check(cls, settings: BaselineSettings, seen: SeenImages) -> None:
        """Raise `InputError` for critical points that the source does not have."""
        names = seen.features["source"].names
        for name in settings.baselines.points or []:
            if name not in names:
                raise InputError(f"baselines.points names '{name}'; the source has {', '.join(names)}")

    def fit(self, seen: SeenImages, workshop: Workshop) -> Fitting:
        """Fit the method to the training images."""
        started, cache = perf_counter(), seen.features["source"]
        self.size, self.points, self.seed = cache.size, list(cache.names), workshop.seed
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
            seed=workshop.seed if self.method.draws else None,
            code=code_digest(__name__),
        )
        try:
            history, reused = self.half.fit(seen, workshop)
        except InputError:
            raise
        except Exception as error:  # whatever the library meets in these images
            ((name, _),) = self.settings.baselines.present.items()
            raise InputError(
                f"baselines.methods.{name} failed ({type(error).__name__}: {error}); change its options, or leave it "
                f"out with {name}: null"
            ) from error
        return Fitting(history, perf_counter() - started, reused)

    def learnt_state(self) -> dict[str, Tensor]:
        """Return what the method has fitted."""
        return self.half.state()

    def learnt_facts(self) -> dict[str, Any]:
        """Return the source's points by name with what divides their activations, and the seed."""
        return {"points": self.points, "scales": self.scales, "seed": self.seed, **self.half.facts()}

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take what the method has fitted."""
        self.points, self.scales, self.seed = facts["points"], facts["scales"], facts["seed"]
        if len(self.points) != len(self.scales):
            raise ValueError(f"it has {len(self.scales)} scales for {len(self.points)} critical points")
        self.half.restore(state, facts)

    @property
    def methods(self) -> list[str]:
        """One map, or none for a method that scores whole images."""
        return [_MAP] if self.method.maps else []

    @property
    def image_score(self) -> ImageScore:
        """The mean of the map's highest values, or the method's own number."""
        if not self.method.maps:
            return ImageScore("score", "raw")
        return ImageScore(_MAP, "map_top_mean", self.settings.baselines.top_fraction)

    def smoothing(self, method: str) -> SmoothingParameters:
        """Return that of all baselines."""
        return self.settings.baselines.smoothing

    def batch_size(self, method: str | None = None) -> int:
        """Return more images where they become short vectors."""
        return _BATCH if self.method.maps else _VECTOR_BATCH

    @torch.no_grad()
    def maps(self, images: Tensor, outputs: Outputs | None = None, methods: Sequence[str] | None = None) -> Raw:
        """Return the raw score, or the map."""
        images = self.compute.move(images)
        outputs = self.outputs(images) if outputs is None and self.half.looks_through_source else outputs
        return self.half.raw(images, self.scaled(outputs["source"]) if outputs else [])

    def scaled(self, outputs: list[Tensor]) -> list[Tensor]:
        """Return the source's activations, each point's divided by its scale."""
        return [found / scale for found, scale in zip(outputs, self.scales, strict=True)]


class _LearntHalf(ABC):
    """What a kind of baseline fits, keeps and says."""

    looks_through_source = True

    def __init__(self, detector: BaselineDetector) -> None:
        self.detector, self.method = detector, detector.method

    @abstractmethod
    def fit(self, seen: SeenImages, workshop: Workshop) -> tuple[pd.DataFrame | None, bool]:
        """Fit; return the loss history, None without one, and whether all was found done."""

    @abstractmethod
    def raw(self, images: Tensor, outputs: list[Tensor]) -> Raw:
        """Return what the method says of images."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return what was fitted, as tensors."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take what was fitted."""

    def facts(self) -> dict[str, Any]:
        """Return what else was fitted, as JSON."""
        return {}


class _Vectors(_LearntHalf):
    """A library's detector of whole images as vectors."""

    def __init__(self, detector: BaselineDetector) -> None:
        super().__init__(detector)
        settings = detector.settings.baselines
        self.represent = Representation(self.method.representation, settings.pixel_side, settings.components)
        self.looks_through_source = self.method.representation == "source"

    def fit(self, seen: SeenImages, workshop: Workshop) -> tuple[None, bool]:
        """Represent the training images, and fit the library's model."""
        rows = seen.split.rows("train")
        batches = (rows[start : start + _VECTOR_BATCH] for start in range(0, len(rows), _VECTOR_BATCH))
        raw = [self.represent.raw(seen.batch(batch), self._outputs(seen, batch)) for batch in batches]
        vectors = self.represent.fit(np.concatenate(raw))
        self.fitted = fit_detector(self.method.detector, vectors, self.method.options, self._seed(workshop.seed))
        self.features = vectors.shape[1]
        self._state = state_of_detector(self.fitted, vectors)
        return None, False

    def raw(self, images: Tensor, outputs: list[Tensor]) -> Raw:
        """Return the model's score."""
        scores = self.fitted(self.represent(self.represent.raw(images, outputs)))
        return Raw({"score": np.asarray(scores, dtype=np.float64)}, {})

    def state(self) -> dict[str, Tensor]:
        """Return representation and model."""
        return prefixed(self.represent.state(), "representation.") | prefixed(self._state, "model.")

    def facts(self) -> dict[str, Any]:
        """Return the vectors' length."""
        return {"features": self.features}

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take representation and model."""
        self.represent.restore(without_prefix(state, "representation."))
        self._state, self.features = without_prefix(state, "model."), facts["features"]
        given = self.method.detector, self.features, self.method.options, self._seed(facts["seed"])
        self.fitted = restore_detector(*given, self._state)

    def _outputs(self, seen: SeenImages, rows: np.ndarray) -> list[Tensor]:
        return self.detector.scaled(seen.outputs(rows)["source"]) if self.looks_through_source else []

    @staticmethod
    def _seed(seed: int) -> int:
        return derive_seed(seed, "baselines")


class _Patches(_LearntHalf):
    """A model of patches on the source's activations."""

    def __init__(self, detector: BaselineDetector) -> None:
        super().__init__(detector)
        self.model = new_patch_model(self.method.map_options)

    def fit(self, seen: SeenImages, workshop: Workshop) -> tuple[None, bool]:
        """Fit to the training images' patches."""
        rows = seen.split.rows("train")

        def passes():
            for start in range(0, len(rows), _BATCH):
                outputs = seen.outputs(rows[start : start + _BATCH])["source"]
                yield patches_of(self._features(self.detector.scaled(outputs)))

        generator = numpy_generator(workshop.seed, "baselines", self.method.detector)
        self.model.fit(passes, len(rows), generator, derive_seed(workshop.seed, "baselines", "dictionary"))
        return None, False

    def raw(self, images: Tensor, outputs: list[Tensor]) -> Raw:
        """Return the scores of all positions, enlarged to the image's size."""
        features = self._features(outputs)
        scores = torch.from_numpy(np.ascontiguousarray(self.model.score(patches_of(features)), dtype=np.float32))
        grid = scores.unflatten(1, features.shape[-2:])
        maps = interpolate(grid[:, None], self.detector.size, mode="bilinear", align_corners=False)[:, 0]
        return Raw({}, {_MAP: maps.numpy()})

    def state(self) -> dict[str, Tensor]:
        """Return the model's arrays."""
        return self.model.state()

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take the model's arrays."""
        self.model.restore(state)

    def _features(self, outputs: list[Tensor]) -> Tensor:
        names = self.detector.points
        chosen = self.detector.settings.baselines.points or names[:_DEFAULT_POINTS]
        return side_by_side(outputs, [position for position, name in enumerate(names) if name in chosen])


class _Autoencoder(_LearntHalf):
    """An autoencoder, whose residual is the map."""

    looks_through_source = False

    def fit(self, seen: SeenImages, workshop: Workshop) -> tuple[pd.DataFrame, bool]:
        """Train the autoencoder, or find it trained."""
        compute, seed, options = self.detector.compute, workshop.seed, self.method.map_options

        def train(checkpoint):
            network = compute.place(self._new_network(seed))
            history = train_autoencoder(network, seen, self._loss, options, compute, seed, checkpoint)
            return network, history

        trained = train_once(workshop.models, self.detector.key, train)
        self._take(trained.state)
        return trained.history, trained.reused

    def raw(self, images: Tensor, outputs: list[Tensor]) -> Raw:
        """Return the residual at each pixel."""
        with self.detector.compute.autocast():
            found = self.network(images)
        return Raw({}, {_MAP: residual(found, images, self._loss).cpu().numpy()})

    def state(self) -> dict[str, Tensor]:
        """Return the network's weights."""
        return state_of(self.network)

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take the network's weights."""
        self._take(state)

    @property
    def _loss(self) -> str:
        return self.method.detector.removesuffix("_autoencoder")

    def _new_network(self, seed: int):
        return new_autoencoder(self._loss, **self.method.map_options.shape, seed=seed)

    def _take(self, state: dict[str, Tensor]) -> None:
        self.network = self._new_network(0)
        self.network.load_state_dict(state)
        self.detector.compute.place(self.network).eval()
