"""Detectors that look through one source, by the blocks `source` and `features`."""

from kdad.detectors.context import TrainContext
from kdad.detectors.detector import Detector
from kdad.detectors.parameters import SystemSettings
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference, SourceReference, reference_source


class SourceDetector(Detector):
    """A detector whose one frozen network is the source that its settings name."""

    Reference = SourceReference

    @classmethod
    def frozen_networks(
        cls, settings: SystemSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        """Return the source."""
        return {"source": reference_source(settings.source, feature_set, train_context.models)}

    @classmethod
    def passage(cls, settings: SystemSettings, size: tuple[int, int]) -> ExtractionOptions:
        """Return how many images the source sees at once, and how what it gives is kept."""
        return ExtractionOptions.of(settings.features)
