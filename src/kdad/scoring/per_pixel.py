"""Maps standardised: by one mean and spread, or at each pixel.

At each pixel what is usual there for normal images is taken away, and divided by its spread: an object that always
lies the same way has places that a network never learns well, and others that it always does. Training images alone
are looked at: validation ones set the threshold, and a score that they had shaped would predict them more mildly than
new images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from kdad.images.image_set import ChannelStatistics
from kdad.images.splits import Split
from kdad.parameters.strict import StrictModel
from kdad.scoring.smoothing import gaussian_filter

#: Share of a map's overall spread that is added to the spread at each position, so that quiet ones do not shout.
_FLOOR = 0.2
#: Training images that are looked at, at most: enough for a standard deviation to be right to a few percent.
_TRAINING_IMAGES = 512
_KEPT = "moments."  # before the names of tensors


class ZScore(StrictModel):
    """Mean and standard deviation of a map's values."""

    mean: float = Field(description="of all values")
    sd: float = Field(gt=0, description="dividing by the count; 1 where all are the same")

    @classmethod
    def of(cls, values: ChannelStatistics) -> "ZScore":
        """Return that of values taken in as one channel."""
        # Unchecked: of values that are not finite it is not either, and whoever maps images names the one.
        return cls.model_construct(mean=values.mean.item(), sd=values.sd.item() or 1.0)

    def normalise(self, values: Tensor) -> Tensor:
        """Return (x - mean) / sd."""
        return (values - self.mean) / self.sd


@dataclass(frozen=True)
class PixelStats:
    """What maps are standardised by at each position: mean and spread `(h, w)`, float32, the spread above 0."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, values: ChannelStatistics, shape: tuple[int, ...]) -> "PixelStats":
        """Return those of maps of `shape` (h, w), of which each position was taken in as a channel.

        A fifth of the standard deviation over all positions together is added to that of each; a map that is constant
        is divided by 1.
        """
        mean, sd = values.mean.reshape(shape), values.sd.reshape(shape)
        spread = sd + _FLOOR * np.sqrt((np.square(sd) + np.square(mean - mean.mean())).mean())
        spread = np.where(spread > 0, spread, 1.0)
        return cls(*(torch.from_numpy(found.astype(np.float32)) for found in (mean, spread)))

    def normalise(self, maps: Tensor) -> Tensor:
        """Return (x - mean) / spread of maps `(B, h, w)`."""
        return (maps - self.mean.to(maps.device)) / self.spread.to(maps.device)

    def restore(self, maps: Tensor) -> Tensor:
        """Return maps `(B, h, w)` as they were before `normalise`."""
        return maps * self.spread.to(maps.device) + self.mean.to(maps.device)

    def check(self, size: tuple[int, int]) -> None:
        """Raise `ValueError` unless they are of maps of `size` (h, w), finite, and of spreads above 0."""
        for tensor in (self.mean, self.spread):
            if tuple(tensor.shape) != tuple(size):
                raise ValueError(f"it has moments of {tuple(tensor.shape)} for maps of {tuple(size)}")
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.spread).all() and (self.spread > 0).all()):
            raise ValueError("it has moments that are not finite, or spreads that are not above 0")


@dataclass(frozen=True)
class MapMoments:
    """What a map is standardised by: moments of all training images, and of each category of a united set."""

    of_all: PixelStats
    by_category: dict[str, PixelStats] = field(default_factory=dict)

    def normalise(self, maps: Tensor) -> Tensor:
        """Return maps `(B, h, w)` standardised by the moments of all."""
        return self.of_all.normalise(maps)

    def again(self, maps: Tensor, category: str) -> Tensor:
        """Return maps standardised by the moments of all as those of a category standardise them."""
        return self.by_category[category].normalise(self.of_all.restore(maps))

    def of(self, category: str) -> "MapMoments":
        """Return those of a category alone."""
        return MapMoments(self.by_category[category])

    def state(self, name: str) -> dict[str, Tensor]:
        """Return them as tensors, by the map's name and the categories'."""
        return moments_state({name: self.of_all} | {f"{name}/{own}": one for own, one in self.by_category.items()})


def measured_rows(split: Split, most: int = _TRAINING_IMAGES) -> np.ndarray:
    """Return the rows of the training images that statistics are made of: at most so many, evenly spaced."""
    rows = split.rows("train")
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def measure_moments(
    rows: np.ndarray, maps_of: Callable[[np.ndarray], dict[str, Tensor]], batch_size: int, overall: bool = False
) -> dict[str, PixelStats] | dict[str, ZScore]:
    """Return the moments of maps by name, at each pixel or `overall`.

    `maps_of` gives those of images at some of the `rows`, `(B, h, w)`; a map may be of a part of them.
    """
    statistics: dict[str, ChannelStatistics] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(rows), batch_size):
        for name, maps in maps_of(rows[start : start + batch_size]).items():
            shapes[name] = tuple(maps.shape[1:])
            values = maps.reshape(-1, 1) if overall else maps.flatten(1)
            statistics.setdefault(name, ChannelStatistics()).update(values.cpu().numpy())
    if overall:
        return {name: ZScore.of(measured) for name, measured in statistics.items()}
    return {name: PixelStats.of(measured, shapes[name]) for name, measured in statistics.items()}


def measure_map(split: Split, map_of: Callable[[np.ndarray], Tensor], sigma: float, batch_size: int) -> MapMoments:
    """Return the moments of one map after a Gaussian filter; `map_of` gives that of images at some rows.

    An image is mapped once, also where its category has moments beside those of all.
    """
    parts = {"": measured_rows(split)} | {name: measured_rows(split.training_of(name)) for name in split.members}

    def maps_of(rows: np.ndarray) -> dict[str, Tensor]:
        maps = gaussian_filter(map_of(rows), sigma)
        return {name: maps[torch.from_numpy(np.isin(rows, own)).to(maps.device)] for name, own in parts.items()}

    own = measure_moments(np.unique(np.concatenate(list(parts.values()))), maps_of, batch_size)
    return MapMoments(own.pop(""), own)


def moments_state(moments: dict[str, PixelStats]) -> dict[str, Tensor]:
    """Return moments as tensors by name, to be kept."""
    return {
        f"{_KEPT}{name}.{part}": getattr(found, part) for name, found in moments.items() for part in ("mean", "spread")
    }


def take_moments(state: dict[str, Tensor], size: tuple[int, int]) -> dict[str, PixelStats]:
    """Take the moments of maps of `size` (h, w) out of what was kept; raises `ValueError` for those that do not fit."""
    kept = {name.removeprefix(_KEPT): state.pop(name) for name in list(state) if name.startswith(_KEPT)}
    names = dict.fromkeys(name.rpartition(".")[0] for name in kept)
    found = {name: PixelStats(kept[f"{name}.mean"], kept[f"{name}.spread"]) for name in names}
    for moments in found.values():
        moments.check(size)
    return found


def take_map_moments(
    state: dict[str, Tensor], name: str, size: tuple[int, int], asked: str, where: str
) -> MapMoments | None:
    """Take the moments of a detector's one map; raises `ValueError` where they are not what was `asked` for `where`."""
    found = take_moments(state, size)
    of_all = found.pop(name, None)
    if (of_all is not None) != (asked == "per_pixel"):
        raise ValueError(f"its {where} is {asked}, and its moments differ")
    own = {key.removeprefix(f"{name}/"): one for key, one in found.items() if key.startswith(f"{name}/")}
    return None if of_all is None else MapMoments(of_all, own)
