"""Maps made of critical points' maps, each against what normal images have there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdad.errors import InputError
from kdad.images.splits import Split
from kdad.scoring.enlarging import enlarge
from kdad.scoring.position import PositionMoments, PositionStatistics, measured_rows, moments_state, take_moments
from kdad.scoring.smoothing import gaussian_filter

#: What normal images are measured for: nothing, a mean a map, or mean and spread at each position.
Normalisation = Literal["none", "validation", "position"]
_PARTS = {"none": (), "validation": ("validation",), "position": ("train", "validation")}


class NormalisedMap:
    """What normal images made of the `count` maps that a map is put together of: a mean each, or moments at each pixel.

    `sigma` is of the Gaussian, in pixels, that the finished map passes through: moments are those of maps that have
    passed through it.
    """

    def __init__(
        self, count: int, size: tuple[int, int], sigma: float, normalisation: Normalisation, weigh: bool = False
    ) -> None:
        self.size, self.sigma, self.normalisation, self.weigh = size, sigma, normalisation, weigh
        self.means = [1.0] * count
        self.moments: list[PositionMoments] = []
        self._seen: dict[str, list[PositionStatistics]] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the split whose images it is measured on."""
        return _PARTS[self.normalisation]

    def take_in(self, part: str, found: Sequence[Tensor]) -> None:
        """Take in the maps `(B, h_i, w_i)` of a batch of normal images of a part of the split."""
        statistics = self._seen.setdefault(part, [PositionStatistics() for _ in found])
        for measured, one in zip(statistics, found, strict=True):
            if self.normalisation == "position":
                one = torch.from_numpy(gaussian_filter(enlarge(one, self.size).cpu().numpy(), self.sigma))
            measured.update(one)

    def settle(self) -> None:
        """Make of what was taken in what maps are normalised by, and forget it."""
        seen, self._seen = self._seen, {}
        if self.normalisation == "validation":
            self.means = np.maximum([found.mean.mean() for found in seen["validation"]], 1e-12).tolist()
        elif self.normalisation == "position":
            pairs = zip(seen["train"], seen["validation"], strict=True)
            self.moments = [PositionMoments.combine(*pair, weigh=self.weigh) for pair in pairs]

    def restore(self, means: Sequence[float], moments: Sequence[PositionMoments]) -> None:
        """Take means and moments that were kept; raises `ValueError` for those of other points than the rule's."""
        if len(means) != len(self.means):
            raise ValueError(f"it has {len(means)} point_means for {len(self.means)} mapped points")
        wanted = len(self.means) if self.normalisation == "position" else 0
        if len(moments) != wanted:
            raise ValueError(f"it has moments of {len(moments)} points, and {wanted} are standardised by them")
        self.means, self.moments = list(means), list(moments)


def measure_maps(
    maps: Sequence[NormalisedMap], split: Split, found_in: Callable[[np.ndarray], Any], batch_size: int
) -> None:
    """Measure on normal images what maps are normalised by; nothing is read for maps that need none.

    `found_in` gives what the maps take in of the images at some rows of the split.
    """
    for part in ("train", "validation"):
        measured = [one for one in maps if part in one.parts]
        rows = measured_rows(split, part) if measured else []
        for start in range(0, len(rows), batch_size):
            found = found_in(rows[start : start + batch_size])
            for one in measured:
                one.take_in(part, found)
    for one in maps:
        one.settle()


def maps_state(maps: Mapping[str, NormalisedMap]) -> dict[str, Tensor]:
    """Return as tensors by name, to be kept, the moments that maps are standardised by."""
    return moments_state(
        {f"{name}.{number}": found for name, made in maps.items() for number, found in enumerate(made.moments)}
    )


def restore_maps(
    maps: Mapping[str, NormalisedMap], means: dict[str, list[float]], state: dict[str, Tensor], size: tuple[int, int]
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
