"""A map of the discrepancy by a rule: which points, quantity and term, against what, how they are put together."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.ensemble import location_disagreement
from kdad.detectors.mkd.forward_map import fuse_points, location_maps
from kdad.detectors.mkd.normalised_map import NormalisedMap
from kdad.detectors.mkd.parameters import DiscrepancyParameters
from kdad.detectors.mkd.rule_parameters import PointMapParameters


class Discrepancies:
    """What one batch shows at each location, by quantity, term and critical point, each worked out once.

    `cloner` are the mean activations of the cloners, `cloners` those of each.
    """

    def __init__(
        self,
        source: Sequence[Tensor],
        cloner: Sequence[Tensor],
        loss: DiscrepancyParameters,
        cloners: Sequence[Sequence[Tensor]] = (),
    ) -> None:
        self._source, self._cloner, self._cloners, self._loss = source, cloner, cloners, loss
        self._known: dict[tuple[str, str, int], Tensor] = {}

    def maps(self, term: str, positions: Sequence[int], quantity: str = "discrepancy") -> list[Tensor]:
        """Return the maps `(B, h_i, w_i)` of the points at these positions: ``discrepancy`` or ``disagreement``."""
        find: Callable[[str, int], Tensor] = {
            "discrepancy": self._discrepancy,
            "disagreement": self._disagreement,
        }[quantity]
        for i in positions:
            if (quantity, term, i) not in self._known:
                self._known[quantity, term, i] = find(term, i)
        return [self._known[quantity, term, i] for i in positions]

    def total(self, positions: Sequence[int]) -> Tensor:
        """Return L_total `(B,)` over the points at these positions."""
        source, cloner = ([found[i] for i in positions] for found in (self._source, self._cloner))
        return discrepancy_terms(source, cloner, self._loss)["total"]

    def _discrepancy(self, term: str, i: int) -> Tensor:
        return location_maps([self._source[i]], [self._cloner[i]], term, self._loss)[0]

    def _disagreement(self, term: str, i: int) -> Tensor:
        return location_disagreement([one[i] for one in self._cloners], term, self._loss)


class PointMap(NormalisedMap):
    """A rule with what normal images made of it; of ``both`` quantities the discrepancy's points come first."""

    def __init__(self, rule: PointMapParameters, positions: Sequence[int], size: tuple[int, int], sigma: float) -> None:
        self.rule, self.positions = rule, list(positions)
        self.quantities = rule.quantities
        weigh = rule.weighting == "generalisation"
        super().__init__(len(self.quantities) * len(self.positions), size, sigma, rule.normalisation, weigh)

    def take_in(self, part: str, found: Discrepancies) -> None:
        """Take in a batch of normal images of a part of the split."""
        super().take_in(part, self._maps(found))

    def map(self, found: Discrepancies) -> Tensor:
        """Return the map `(B, H, W)`."""
        return fuse_points(self._maps(found), self.size, self.rule.fusion, self.means, self.moments)

    def facts(self) -> dict[str, Any]:
        """Return everything that the map depends on beside the networks, as JSON."""
        sigma = self.sigma if self.rule.normalisation == "position" else None
        return self.rule.model_dump(include=set(PointMapParameters.model_fields)) | {"moments_sigma": sigma}

    def _maps(self, found: Discrepancies) -> list[Tensor]:
        return [one for quantity in self.quantities for one in found.maps(self.rule.term, self.positions, quantity)]
