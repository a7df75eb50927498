"""STFPM as a detector: where the student's feature pyramid departs from the source's."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from kdad.detectors.feature_distance import FeatureDistanceDetector, location_distance
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.networks.source import build_source
from kdad.scoring.smoothing import upsample


def pyramid_loss(source: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Return the mean distance over locations, summed over critical points, `(B,)` (eq. 1 to 4; weights are 1)."""
    pairs = zip(source, student, strict=True)
    return torch.stack([location_distance(s, t).flatten(1).mean(1) for s, t in pairs]).sum(0)


def pyramid_map(source: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the product of the points' maps, each enlarged to `size` (bilinear), `(B, H, W)` (eq. 5)."""
    pairs = zip(source, student, strict=True)
    return reduce(torch.mul, (upsample(location_distance(s, t), size) for s, t in pairs))


class StfpmDetector(FeatureDistanceDetector):
    """A student of the source's own architecture learns its features of normal images, each of length 1.

    Wang et al. 2021, "Student-Teacher Feature Pyramid Matching for Anomaly Detection". Map: ``feature_distance``.
    """

    system = "stfpm"
    Settings = StfpmSettings

    def new_student(self) -> nn.Module:
        """Build the source's architecture up to the last chosen point, with weights of its own."""
        source = self.references["source"]
        student = build_source(source.name).fit_to(self.size)
        student.select([source.critical_points[i] for i in self.chosen_points])
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
