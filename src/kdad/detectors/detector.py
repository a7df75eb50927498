"""The detector: a frozen half, a learnt half, how raw maps become a score, and a threshold; what making it takes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from kdad import __version__
from kdad.compute import Compute
from kdad.detectors.folder import FORMAT, DetectorFacts, ImageFacts, write_folder
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.features.cache import Storage
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import FrozenNetwork, NetworkReference, SourceReference, reference_source
from kdad.networks.source import Source
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import MapMoments, measure_map
from kdad.scoring.smoothing import lower_ignored, smooth
from kdad.scoring.threshold import Calibration
from kdad.storage.content_store import ContentStore, content_key
from kdad.storage.provenance import code_digest

if TYPE_CHECKING:
    import pandas as pd

#: Outputs of frozen networks `(B, C_i, h_i, w_i)`, by the networks' names.
FrozenOutputs = dict[str, list[Tensor]]


@dataclass(frozen=True)
class TrainContext:
    """Where a detector is made: the machine, the seed, and the store of networks that are trained already.

    `split_seed` is the run's, by which images are held out.
    """

    compute: Compute
    seed: int
    models: ContentStore
    split_seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """What fitting left besides the detector: its cost, and the loss by epoch, split and term, if one was followed."""

    history: "pd.DataFrame | None"
    seconds: float
    reused: bool
    network: str = "network"


@dataclass(frozen=True)
class Outputs:
    """What a detector says of a batch before smoothing: scores `(B,)` and maps `(B, H, W)`, by name."""

    scores: dict[str, Tensor]
    maps: dict[str, Tensor]


class Detector(nn.Module, Predictor):
    """A predictor that is fitted: of images `(B, 3, H, W)` in [0, 1] of one size.

    A subclass says which parameter blocks make it (`Settings`), which frozen networks it looks through, how it is
    fitted, and what it says of images (`maps`). Outputs of the frozen networks, where they are known already, may be
    handed in; both ways give the same numbers.
    """

    system: ClassVar[str]
    Settings: ClassVar[type[SystemSettings]]
    Reference: ClassVar[type[NetworkReference]]

    def __init__(self, settings: SystemSettings, references: dict[str, NetworkReference], compute: Compute) -> None:
        nn.Module.__init__(self)
        Predictor.__init__(self)
        self.settings, self.references, self.compute = settings, references, compute
        self.key = ""  # of the learnt half; names what is made of it
        self.in_float32: Calibration | None = None  # of one that computes in bfloat16
        self.moments: MapMoments | None = None  # of one that standardises the map that its score is of

    # What it says of itself before anything is trained.

    @classmethod
    def prepare_images(cls, settings: SystemSettings, feature_set: FeatureSet, split_seed: int) -> FeatureSet:
        """Return the images as the system takes them, where that is not as they are."""
        return feature_set

    @classmethod
    @abstractmethod
    def frozen_networks(
        cls, settings: SystemSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        """Return the frozen networks by name; those that have to be trained are trained, or found."""

    @classmethod
    def extraction_options(cls, settings: SystemSettings, size: tuple[int, int]) -> ExtractionOptions:
        """Return how the frozen networks run over images of `size`."""
        return ExtractionOptions(32)

    @classmethod
    def check_inputs(cls, settings: SystemSettings, feature_set: FeatureSet) -> None:
        """Raise `InputError` for images, split or settings that cannot be used, before anything is computed."""
        feature_set.split.require_normal()

    @classmethod
    def is_stochastic(cls, settings: SystemSettings) -> bool:
        """Tell whether the seed changes anything."""
        return True

    @classmethod
    def check(cls, settings: SystemSettings, feature_set: FeatureSet) -> None:
        """Raise `InputError` for settings that do not fit the frozen networks, before anything is trained."""

    @classmethod
    def describe(cls, settings: SystemSettings) -> str:
        """Say in a few words what the detector looks through."""
        return cls.system

    @classmethod
    def label(cls, settings: SystemSettings) -> dict[str, str]:
        """Return what a table of baselines says of the system: ``detector``, and what it ``sees``."""
        return {"detector": cls.system, "sees": "images"}

    # The learnt half.

    @abstractmethod
    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        """Learn from the training images, and measure on validation ones what maps are normalised by."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return the learnt half as tensors by name."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return what else was learnt, as JSON: scales, constants, shapes."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take the learnt half from what `state_dict` and `metadata` returned."""

    # What it says of images.

    @abstractmethod
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return raw scores and maps of images `(B, 3, H, W)`; `methods` None means those that a score needs."""

    @property
    @abstractmethod
    def methods(self) -> list[str]:
        """The maps that are measured; the first is shown. Empty for a system that makes none."""

    @property
    @abstractmethod
    def image_score(self) -> ImageScore:
        """How an image's score comes about."""

    def smoothing(self, method: str) -> SmoothingParameters:
        """Return what a map passes through."""
        return SmoothingParameters()

    def is_costly(self, method: str) -> bool:
        """Tell whether a map takes many times a forward pass, so that validation images go without it."""
        return False

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return the settings that raw maps depend on beyond the learnt half, as JSON."""
        return {}

    def batch_size(self, method: str | None = None) -> int:
        """Return how many images are mapped at once."""
        return 32

    def cost(self) -> dict[str, float]:
        """Return what the learnt half takes: ``parameters`` and ``flops`` an image, where they mean something."""
        return {}

    @property
    def region_score(self) -> ImageScore:
        """How an image's score comes about of the pixels that count: the highest share is of these."""
        rule, region = self.image_score, self.region
        return rule if region is None else replace(rule, top_fraction=rule.top_fraction * float(region.mean()))

    @property
    def needed_methods(self) -> list[str]:
        """The maps that predicting an image takes: the one shown, and those that the score is taken of."""
        return list(dict.fromkeys([*self.methods[:1], *self.image_score.map_names]))

    # What all systems share.

    @cached_property
    def frozen(self) -> dict[str, FrozenNetwork]:
        """The frozen networks, loaded when first used."""
        return {name: FrozenNetwork(reference, self.compute) for name, reference in self.references.items()}

    @property
    def depth(self) -> int | None:
        """How many outputs of the source, from the first on, a prediction takes; None for all."""
        return None

    def outputs(self, images: Tensor, depth: int | None = None) -> FrozenOutputs:
        """Run the frozen networks on images `(B, 3, H, W)`; a source to a `depth`, None for all of it."""
        return {name: network.outputs(images, depth) for name, network in self.frozen.items()}

    def describe_itself(self) -> str:
        """Name the kind of detector in a message."""
        return f"a detector of '{self.system}'"

    @property
    def is_exportable(self) -> bool:
        """Whether its scores and its first map come from torch alone, without a gradient."""
        return not any(map(self.is_costly, self.needed_methods))

    def require_exportable(self) -> None:
        """Raise `InputError` that says which detectors can be exported, for one that cannot."""
        if not self.is_exportable:
            raise InputError(
                f"{self.describe_itself()} cannot be exported; a system can where neither its first map nor its score "
                "is a gradient's, and of the baselines memory_bank, position_gaussian, feature_dictionary, "
                "patch_kmeans, patch_ocsvm, l2_autoencoder and variational_autoencoder can"
            )

    def graph(self) -> nn.Module:
        """Return it as one module on the CPU, from `image` `(B, 3, H, W)` in [0, 1] to `score` `(B,)` and `map`.

        `map` `(B, H, W)` is the finished one that is shown; a system without maps has a score alone. Frozen networks,
        filters and the score's rule are inside. Raises `InputError` for a system that is not torch's alone.
        """
        self.require_exportable()
        return DetectorGraph(self)

    @torch.no_grad()
    def score_and_show(
        self, images: Tensor, outputs: FrozenOutputs | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores `(B,)` of images `(B, 3, H, W)`, and the maps `(B, H, W)` that are shown."""
        scores, smoothed = self.score_and_map(images, outputs)
        return scores.cpu().numpy(), smoothed[self.methods[0]].cpu().numpy() if self.methods else None

    def score_and_map(
        self, images: Tensor, outputs: FrozenOutputs | None = None, ignored: Sequence[np.ndarray | None] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scores `(B,)` of images `(B, 3, H, W)`, and by name the smoothed maps that scoring them takes.

        The `ignored` pixels `(H, W)` of each image, where there are some, have the lowest value of its others.
        """
        if outputs is None and self.depth is not None:
            outputs = self.outputs(images, self.depth)
        return self.finish(self.maps(images, outputs, self.needed_methods), ignored)

    def finish(self, raw: Outputs, ignored: Sequence[np.ndarray | None] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `score_and_map` does, of raw scores and maps."""
        region = self.region
        smoothed = {name: smooth(raw.maps[name], self.smoothing(name), region) for name in self.needed_methods}
        if any(mask is not None for mask in ignored):
            for maps in smoothed.values():
                lower_ignored(maps, ignored)
        return self.region_score.of_images(raw.scores, smoothed), smoothed

    @property
    def categories(self) -> list[str]:
        """The categories that have moments of their own."""
        return [] if self.moments is None else list(self.moments.by_category)

    def score_categories(self, raw: Outputs) -> dict[str, Tensor]:
        """Return the scores `(B,)` by the moments of each of the `categories`, of raw maps by those of all."""
        found, standardised = {}, self.image_score.of
        for name in self.categories:
            own = self.moments.again(raw.maps[standardised], name)
            found[name] = self.finish(Outputs(raw.scores, raw.maps | {standardised: own}))[0].float()
        return found

    def of_category(self, category: str) -> Self:
        """Return the same detector, standardising by the moments of one of its `categories`; itself without such."""
        if category not in self.categories:
            return self
        own = copy(self)
        own.moments = self.moments.of(category)
        return own

    def for_category(self, category: str) -> Self:
        """Return the same detector with the threshold, and the moments, of one of the categories that it has learnt.

        Raises `InputError` for a category that it has not.
        """
        return super().for_category(category).of_category(category)

    def float32_twin(self) -> Self | None:
        """Return the same detector computing in float32, without a threshold; None for one that does so itself."""
        if self.compute.dtype == torch.float32:
            return None
        twin = type(self)(self.settings, self.references, replace(self.compute, dtype=torch.float32))
        twin.size, twin.key, twin.preparation = self.size, self.key, self.preparation
        twin.load_state({name: tensor.cpu() for name, tensor in self.state_dict().items()}, self.metadata())
        return twin.eval()

    def save(self, folder: str | Path) -> Path:
        """Write the detector to a folder, which then holds all that predicting takes; one that is there is replaced."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return write_folder(Path(folder).expanduser(), state, self._describe_for)

    def _describe_for(self, folder: Path) -> DetectorFacts:
        kept = {name: reference.keep(folder, name) for name, reference in self.references.items()}
        return DetectorFacts(
            format=FORMAT,
            system=self.system,
            package=__version__,
            settings=self.settings.model_dump(mode="json"),
            image=ImageFacts.describe(self.size, self.preparation),
            precision=self.compute.describe()["dtype"],
            frozen={name: reference.model_dump(mode="json") for name, reference in kept.items()},
            learnt=self.metadata(),
            key=self.key,
            threshold=self.threshold,
            validation_scores=self.validation_scores.tolist(),
            pixel_threshold=self.pixel_threshold,
            in_float32=self.in_float32,
            by_category=self.by_category,
            colour_limits=self.colour_limits,
            tiled=self.tiled,
            made_by=self.record,
        )

    def raw_key(self, methods: Sequence[str], feature_set: FeatureSet) -> str:
        """Return a key of the raw maps by these methods of these images."""
        return content_key(
            learnt=self.key,
            methods=list(methods),
            settings=self.map_settings(methods),
            images=feature_set.split.images_digest,
            scored=feature_set.split.digest,
            code=code_digest(type(self).__module__),
        )


class SourceDetector(Detector):
    """A detector whose one frozen network is the source that its settings name."""

    Reference = SourceReference

    @classmethod
    def source_settings(cls, settings: SystemSettings) -> Any:
        """Return what has the blocks `source` and `features`."""
        return settings

    @classmethod
    def frozen_networks(
        cls, settings: SystemSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        named = cls.source_settings(settings).source
        return {"source": reference_source(named, feature_set.images, feature_set.split, train_context.models)}

    @classmethod
    def extraction_options(cls, settings: SystemSettings, size: tuple[int, int]) -> ExtractionOptions:
        found = cls.source_settings(settings).features
        return ExtractionOptions(found.batch_size, storage=Storage(found.outputs_on_disk, found.images_on_disk))

    @classmethod
    def describe(cls, settings: SystemSettings) -> str:
        return cls.source_settings(settings).source.name

    @torch.no_grad()
    def measure_moments(
        self, feature_set: FeatureSet, map_of: Callable[[Tensor, FrozenOutputs | None], Tensor], sigma: float
    ) -> MapMoments:
        """Return what a map of training images is standardised by, after a Gaussian; `map_of` makes it as `maps`."""

        def of_rows(rows: np.ndarray) -> Tensor:
            return map_of(feature_set.batch(rows), feature_set.outputs(rows))

        return measure_map(feature_set.split, of_rows, sigma, self.batch_size())


class DetectorGraph(nn.Module):
    """Images `(B, 3, H, W)` in [0, 1] to scores `(B,)`, and finished maps `(B, H, W)` where there are some.

    Of a detector with moments of each category, its scores by each of them come last, `(B, categories)`.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.networks = nn.ModuleDict({name: network.module for name, network in detector.frozen.items()})
        for network in self.networks.values():
            if isinstance(network, Source):  # runtimes differ in how they interpolate a transformer's positions
                network.fit_to(detector.size)
        self.eval().requires_grad_(False)
        _ = detector.region  # found out once: what traces the graph cannot follow how

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the scores, the maps, and the scores of the categories."""
        detector = self.detector
        outputs = {name: [found.float() for found in network(images)] for name, network in self.networks.items()}
        raw = detector.maps(images, outputs, detector.needed_methods)
        scores, maps = detector.finish(raw)
        own = detector.score_categories(raw)
        by_category = [torch.stack(list(own.values()), dim=1)] if own else []
        return (scores.float(), *(maps[name] for name in detector.methods[:1]), *by_category)
