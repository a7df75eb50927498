"""STFPM as a detector: where the student's feature pyramid departs from the source's."""

from torch import Tensor, nn

from kdad.detectors.feature_distance import FeatureDistanceDetector
from kdad.detectors.stfpm.losses import pyramid_loss, pyramid_map
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.networks.architectures import build_source


class StfpmDetector(FeatureDistanceDetector):
    """A student of the source's own architecture learns its features of normal images, each of length 1.

    Wang et al. 2021, "Student-Teacher Feature Pyramid Matching for Anomaly Detection". Map: ``feature_distance``.
    """

    system = "stfpm"
    Settings = StfpmSettings

    def new_student(self) -> nn.Module:
        """Build the source's architecture up to the last chosen point, with weights of its own."""
        source = self.references["source"]
        student = build_source(source.name).select([source.critical_points[i] for i in self.chosen_points])
        return student.normalise_with(source.mean, source.sd)

    def imitate(self, student: nn.Module, images: Tensor, source: list[Tensor]) -> list[Tensor]:
        """Return the student's features of the images; it does not see the source's."""
        return student(images)

    def loss(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return the pyramid's loss (eq. 3, 4)."""
        return pyramid_loss(source, student)

    def distance(self, source: list[Tensor], student: list[Tensor]) -> Tensor:
        """Return the product of the points' distances (eq. 5)."""
        return pyramid_map(source, student, self.size)
