"""What a system says of itself before anything is trained."""

from abc import ABC, abstractmethod
from typing import ClassVar

from kdad.detectors.context import TrainContext
from kdad.detectors.parameters import SystemSettings
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference


class System(ABC):
    """A kind of detector: which parameter blocks make it (`Settings`), and which frozen networks it looks through."""

    system: ClassVar[str]
    Settings: ClassVar[type[SystemSettings]]
    Reference: ClassVar[type[NetworkReference]]

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
    def passage(cls, settings: SystemSettings, size: tuple[int, int]) -> ExtractionOptions:
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

    @classmethod  # noqa: B027 (a system may have nothing to check)
    def check(cls, settings: SystemSettings, feature_set: FeatureSet) -> None:
        """Raise `InputError` for settings that do not fit the frozen networks, before anything is trained."""

    @classmethod
    def describe(cls, settings: SystemSettings) -> str:
        """Say in a few words what the detector looks through."""
        return settings.source.name if hasattr(settings, "source") else cls.system

    @classmethod
    def label(cls, settings: SystemSettings) -> dict[str, str]:
        """Return what a table of baselines says of the system: ``detector``, and what it ``sees``."""
        return {"detector": cls.system, "sees": "images"}
