"""A gradient map by a rule: of L_total as it is, or of each critical point's part of it against normal images."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdad.detectors.mkd.attribution import TotalDiscrepancy, gradient_maps
from kdad.detectors.mkd.forward_map import fuse_points
from kdad.detectors.mkd.normalised_map import NormalisedMap
from kdad.detectors.mkd.parameters import GradientMapParameters, LocalisationMethod

#: L_total over the critical points at these positions.
TotalOf = Callable[[list[int]], TotalDiscrepancy]


class GradientMap(NormalisedMap):
    """A localisation method with what normal images made of each critical point's gradient.

    As published, all points' losses are summed and differentiated at once. Normalised, each point's loss is
    differentiated alone, so that one with large gradients does not drown the others.
    """

    def __init__(
        self,
        method: LocalisationMethod,
        rule: GradientMapParameters,
        positions: Sequence[int],
        size: tuple[int, int],
        sigma: float,
    ) -> None:
        self.method, self.rule, self.positions = method, rule, list(positions)
        super().__init__(len(self.positions), size, sigma, rule.normalisation)

    def points_maps(self, total_of: TotalOf, images: Tensor, seed: int, baseline: Tensor | None = None) -> list[Tensor]:
        """Return each critical point's map `(B, H, W)` of images `(B, 3, H, W)`; one backward pass a point."""
        with torch.enable_grad():
            return [
                gradient_maps(total_of([i]), images, self.method, self.rule, seed, baseline) for i in self.positions
            ]

    def map(self, total_of: TotalOf, images: Tensor, seed: int, baseline: Tensor | None = None) -> Tensor:
        """Return the map `(B, H, W)`; `baseline` `(3, H, W)` is the image that integrated gradients begin at."""
        if self.normalisation == "none":
            with torch.enable_grad():
                return gradient_maps(total_of(self.positions), images, self.method, self.rule, seed, baseline)
        found = self.points_maps(total_of, images, seed, baseline)
        return fuse_points(found, self.size, "sum", self.means, self.moments)

    def facts(self) -> dict[str, Any]:
        """Return what the map depends on beside the networks, as JSON."""
        sigma = {"moments_sigma": self.sigma} if self.normalisation == "position" else {}
        return {"gradient_map": self.rule.model_dump()} | sigma
