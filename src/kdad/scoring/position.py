"""Maps standardised at each position: what is usual there for normal images is taken away, and divided by its spread.

An object that always lies the same way has places that a network never learns well, and others that it always does;
what is left says how unusual a value is where it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdad.images.splits import Part, Split
from kdad.images.statistics import ChannelStatistics

#: Share of a map's overall spread that is added to the spread at each position, so that quiet ones do not shout.
_FLOOR = 0.2
#: How fast a map loses weight with the factor by which training images are judged too well.
_DISTRUST = 4
#: Training images that are looked at, at most: enough for a standard deviation to be right to a few percent.
_TRAINING_IMAGES = 512
_KEPT = "moments."  # before the names of tensors


class PositionStatistics:
    """Streaming mean and variance of maps at each position, in float64; memory is that of a few maps."""

    def __init__(self) -> None:
        self._moments = ChannelStatistics()
        self._shape: tuple[int, ...] = ()

    def update(self, maps: Tensor) -> None:
        """Take in maps `(B, h, w)` of normal images; raises `ValueError` for another size than before."""
        self._shape = self._shape or tuple(maps.shape[1:])
        if tuple(maps.shape[1:]) != self._shape:
            raise ValueError(f"maps of {tuple(maps.shape[1:])} cannot be combined with those of {self._shape}")
        self._moments.update(maps.flatten(1).cpu().numpy())

    @property
    def mean(self) -> np.ndarray:
        """The mean at each position `(h, w)`; raises `ValueError` before any map was taken in."""
        return self._moments.mean.reshape(self._shape)

    @property
    def variance(self) -> np.ndarray:
        """The variance at each position `(h, w)`, dividing by the count; raises as `mean` does."""
        return np.square(self._moments.sd).reshape(self._shape)


@dataclass(frozen=True)
class PositionMoments:
    """What maps are standardised by at each position: mean and spread `(h, w)`, float32, the spread above 0."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def combine(
        cls, training: PositionStatistics, held_out: PositionStatistics, weigh: bool = False
    ) -> "PositionMoments":
        """Take the pattern over positions from training images, and its level from held-out ones.

        A network is too good on what it has learnt, everywhere by about the same factor: with m and s the training
        images' mean and standard deviation at a position, the mean is a * m and the standard deviation b * s, where
        a and b make the held-out images' mean, and their mean squared distance from a * m, come out right over all
        positions together. Held-out images alone are too few for a standard deviation at each position. A fifth of
        the overall standard deviation is added to each; a map that is constant is divided by 1.

        With `weigh` the spread is multiplied by a^4 where a is above 1: maps of which the network has learnt the
        training images by heart, rather than what they have in common, then count for less in a sum.
        """
        m, v = training.mean, training.variance
        level = held_out.mean.mean() / m.mean() if m.mean() else 1.0
        mean = level * m
        squares = (held_out.variance + np.square(held_out.mean - mean)).mean()
        widening = np.sqrt(squares / v.mean()) if v.mean() else 1.0
        overall = np.sqrt((held_out.variance + np.square(held_out.mean - held_out.mean.mean())).mean())
        spread = widening * np.sqrt(v) + _FLOOR * overall
        spread = np.where(spread > 0, spread, 1.0) * (max(level, 1.0) ** _DISTRUST if weigh else 1.0)
        return cls(*(torch.from_numpy(found.astype(np.float32)) for found in (mean, spread)))

    def normalise(self, maps: Tensor) -> Tensor:
        """Return (x - mean) / spread of maps `(B, h, w)`."""
        return (maps - self.mean.to(maps.device)) / self.spread.to(maps.device)

    def check(self, size: tuple[int, int]) -> None:
        """Raise `ValueError` unless they are of maps of `size` (h, w), finite, and of spreads above 0."""
        for tensor in (self.mean, self.spread):
            if tuple(tensor.shape) != tuple(size):
                raise ValueError(f"it has moments of {tuple(tensor.shape)} for maps of {tuple(size)}")
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.spread).all() and (self.spread > 0).all()):
            raise ValueError("it has moments that are not finite, or spreads that are not above 0")


def measured_rows(split: Split, part: Part, most: int = _TRAINING_IMAGES) -> np.ndarray:
    """Return the rows of a part that statistics are made of: all held-out images, and at most so many of training."""
    rows = split.rows(part)
    if part != "train" or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]  # evenly spaced


def measure_moments(
    split: Split, maps_of: Callable[[np.ndarray], dict[str, Tensor]], batch_size: int
) -> dict[str, PositionMoments]:
    """Return the moments of maps by name; `maps_of` gives those of images at some rows, `(B, h, w)`."""
    found: dict[str, dict[str, PositionStatistics]] = {}
    for part in ("train", "validation"):
        rows = measured_rows(split, part)
        for start in range(0, len(rows), batch_size):
            for name, maps in maps_of(rows[start : start + batch_size]).items():
                found.setdefault(name, {}).setdefault(part, PositionStatistics()).update(maps)
    return {name: PositionMoments.combine(parts["train"], parts["validation"]) for name, parts in found.items()}


def moments_state(moments: dict[str, PositionMoments]) -> dict[str, Tensor]:
    """Return moments as tensors by name, to be kept."""
    return {
        f"{_KEPT}{name}.{part}": getattr(found, part) for name, found in moments.items() for part in ("mean", "spread")
    }


def take_moments(state: dict[str, Tensor], size: tuple[int, int]) -> dict[str, PositionMoments]:
    """Take the moments of maps of `size` (h, w) out of what was kept; raises `ValueError` for those that do not fit."""
    kept = {name.removeprefix(_KEPT): state.pop(name) for name in list(state) if name.startswith(_KEPT)}
    names = dict.fromkeys(name.rpartition(".")[0] for name in kept)
    found = {name: PositionMoments(kept[f"{name}.mean"], kept[f"{name}.spread"]) for name in names}
    for moments in found.values():
        moments.check(size)
    return found


def take_map_moments(
    state: dict[str, Tensor], name: str, size: tuple[int, int], asked: str, where: str
) -> PositionMoments | None:
    """Take the moments of a detector's one map; raises `ValueError` where they are not what was `asked` for `where`."""
    found = take_moments(state, size).get(name)
    if (found is not None) != (asked == "position"):
        raise ValueError(f"its {where} is {asked}, and its moments differ")
    return found
