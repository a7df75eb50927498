"""A map of the discrepancy by a rule: which points, which term, against what, how they are put together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.mkd.forward_map import enlarge, fuse_points, location_maps
from kdad.detectors.mkd.parameters import DiscrepancyParameters, PointMapParameters
from kdad.errors import InputError
from kdad.images.splits import Split
from kdad.scoring.position import PositionMoments, PositionStatistics, measured_rows, moments_state, take_moments
from kdad.scoring.smoothing import gaussian_filter


class Discrepancies:
    """The discrepancy of one batch at each location, by term and critical point, each worked out once."""

    def __init__(self, source: Sequence[Tensor], cloner: Sequence[Tensor], loss: DiscrepancyParameters) -> None:
        self._source, self._cloner, self._loss = source, cloner, loss
        self._known: dict[tuple[str, int], Tensor] = {}

    def maps(self, term: str, positions: Sequence[int]) -> list[Tensor]:
        """Return the maps `(B, h_i, w_i)` of the points at these positions."""
        for i in positions:
            if (term, i) not in self._known:
                (self._known[term, i],) = location_maps([self._source[i]], [self._cloner[i]], term, self._loss)
        return [self._known[term, i] for i in positions]


class PointMap:
    """A rule with what normal images made of it: a mean a point, or moments at each pixel.

    `sigma` is of the Gaussian, in pixels, that the finished map passes through: moments are those of maps that have
    passed through it.
    """

    def __init__(self, rule: PointMapParameters, positions: Sequence[int], size: tuple[int, int], sigma: float) -> None:
        self.rule, self.positions, self.size, self.sigma = rule, list(positions), size, sigma
        self.means = [1.0] * len(self.positions)
        self.moments: list[PositionMoments] = []
        self._seen: dict[str, list[PositionStatistics]] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the split whose images it is measured on."""
        return {"none": (), "validation": ("validation",), "position": ("train", "validation")}[self.rule.normalisation]

    def take_in(self, part: str, found: Discrepancies) -> None:
        """Take in a batch of normal images of a part of the split."""
        maps = found.maps(self.rule.term, self.positions)
        statistics = self._seen.setdefault(part, [PositionStatistics() for _ in maps])
        for measured, one in zip(statistics, maps, strict=True):
            if self.rule.normalisation == "position":
                one = torch.from_numpy(gaussian_filter(enlarge(one, self.size).cpu().numpy(), self.sigma))
            measured.update(one)

    def settle(self) -> None:
        """Make of what was taken in what maps are normalised by, and forget it."""
        seen, self._seen = self._seen, {}
        if self.rule.normalisation == "validation":
            self.means = np.maximum([found.mean.mean() for found in seen["validation"]], 1e-12).tolist()
        elif self.rule.normalisation == "position":
            pairs = zip(seen["train"], seen["validation"], strict=True)
            self.moments = [
                PositionMoments.combine(*pair, weigh=self.rule.weighting == "generalisation") for pair in pairs
            ]

    def map(self, found: Discrepancies) -> Tensor:
        """Return the map `(B, H, W)`."""
        maps = found.maps(self.rule.term, self.positions)
        return fuse_points(maps, self.size, self.rule.fusion, self.means, self.moments)

    def facts(self) -> dict[str, Any]:
        """Return everything that the map depends on beside the networks, as JSON."""
        sigma = self.sigma if self.rule.normalisation == "position" else None
        return self.rule.model_dump(include=set(PointMapParameters.model_fields)) | {"moments_sigma": sigma}

    def restore(self, means: Sequence[float], moments: Sequence[PositionMoments]) -> None:
        """Take means and moments that were kept; raises `ValueError` for those of other points than the rule's."""
        if len(means) != len(self.positions):
            raise ValueError(f"it has {len(means)} point_means for {len(self.positions)} mapped points")
        wanted = len(self.positions) if self.rule.normalisation == "position" else 0
        if len(moments) != wanted:
            raise ValueError(f"it has moments of {len(moments)} points, and {wanted} are standardised by them")
        self.means, self.moments = list(means), list(moments)


def measure_maps(
    maps: Sequence[PointMap], split: Split, discrepancies: Callable[[np.ndarray], Discrepancies], batch_size: int
) -> None:
    """Measure on normal images what maps are normalised by; nothing is read for maps that need none.

    `discrepancies` are those of the images at some rows of the split.
    """
    for part in ("train", "validation"):
        measured = [one for one in maps if part in one.parts]
        rows = measured_rows(split, part) if measured else []
        for start in range(0, len(rows), batch_size):
            found = discrepancies(rows[start : start + batch_size])
            for one in measured:
                one.take_in(part, found)
    for one in maps:
        one.settle()


def maps_state(maps: dict[str, PointMap]) -> dict[str, Tensor]:
    """Return as tensors by name, to be kept, the moments that maps are standardised by."""
    return moments_state(
        {f"{name}.{number}": found for name, made in maps.items() for number, found in enumerate(made.moments)}
    )


def restore_maps(
    maps: dict[str, PointMap], means: dict[str, list[float]], state: dict[str, Tensor], size: tuple[int, int]
) -> None:
    """Give maps what was kept of them; takes their moments out of `state`. Raises `ValueError` for what does not fit.

    Raises `InputError` for what a version has kept that had one map for both, detection and localisation.
    """
    if not isinstance(means, dict):
        raise InputError(
            "this detector of mkd is of an earlier version, which detected by the map that localises; train it again, "
            "or use the version of kdad that made it"
        )
    moments = take_moments(state, size)
    for name, made in maps.items():
        own = {int(key.split(".")[1]): found for key, found in moments.items() if key.split(".")[0] == name}
        made.restore(means[name], [own[number] for number in sorted(own)])
