"""Systems that look through one source, by the blocks `source` and `features`."""

from kdad.detectors.context import TrainContext
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.system import System
from kdad.features.extraction import FeatureSet, Passage
from kdad.features.network import FrozenReference
from kdad.features.source import SourceReference, reference_source


class SourceSystem(System):
    """A system whose one frozen network is the source that its settings name."""

    Reference = SourceReference

    @classmethod
    def refer(
        cls, settings: SystemSettings, seen: FeatureSet, train_context: TrainContext
    ) -> dict[str, FrozenReference]:
        """Return the source."""
        return {"source": reference_source(settings.source, seen, train_context.models, train_context.statistics)}

    @classmethod
    def passage(cls, settings: SystemSettings, size: tuple[int, int]) -> Passage:
        """Return how many images the source sees at once, and how what it gives is kept."""
        return Passage.of(settings.features)
