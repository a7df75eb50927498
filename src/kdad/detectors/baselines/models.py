"""The learnt halves of baselines: what each kind fits, keeps and says."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kdad.detectors.baselines.autoencoder import new_autoencoder, residual, train_autoencoder
from kdad.detectors.baselines.image_models import Representation, fit_detector, restore_detector, state_of_detector
from kdad.detectors.baselines.patch_models import new_patch_model, patches_of, side_by_side
from kdad.detectors.detector import Outputs, TrainContext
from kdad.detectors.learnt import prefixed, state_of, train_once, without_prefix
from kdad.features.extraction import FeatureSet
from kdad.scoring.smoothing import upsample
from kdad.seeding import derive_seed, numpy_generator

if TYPE_CHECKING:
    from kdad.detectors.baselines.detector import BaselineDetector

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
