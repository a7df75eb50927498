"""Where the tiles of an image lie, and how much say each has at each pixel."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kdad.errors import InputError
from kdad.images.files.fitting import Box, Size
from kdad.parameters.dataset import TileParameters

#: In the name of a tile, between that of its image and where it lies.
_MARK = "#tile="
#: Share of an overlap next to a tile's border, where it has no say: a network sees less there than around it.
_MUTE = 0.25


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size (height, width) in an image's own pixels; neighbours share `overlap` of them, or more."""

    size: Size
    overlap: int

    @classmethod
    def of(cls, parameters: TileParameters, size: Size) -> "Tiling":
        """Return the tiling for a detector of `size`, whose proportions tiles have.

        Raises `InputError` when more than half of a tile would be shared.
        """
        longer = parameters.size or max(size)
        tile = (max(round(size[0] * longer / max(size)), 1), max(round(size[1] * longer / max(size)), 1))
        overlap = min(tile) // 4 if parameters.overlap is None else parameters.overlap
        if 2 * overlap > min(tile):
            raise InputError(
                f"tiles.overlap {overlap} is more than half of a tile of {tile[0]} x {tile[1]}; give at most "
                f"{min(tile) // 2}"
            )
        return cls(tile, overlap)

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]} with {self.overlap} pixels shared"

    def hold_whole(self, own: Size) -> bool:
        """Tell whether one tile holds an image of its `own` size."""
        return own[0] <= self.size[0] and own[1] <= self.size[1]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image of its `own` size; at each pixel their weights sum to 1."""

    own: Size
    tiling: Tiling

    @cached_property
    def boxes(self) -> list[Box]:
        """The tiles, row by row; where the image is narrower than a tile, so are they."""
        down, across = self._sides
        return [Box(top, left, down.seen, across.seen) for top in down.starts for left in across.starts]

    def weights(self, number: int) -> np.ndarray:
        """Return how much say the tile of this number has at each of its pixels `(h, w)`, in [0, 1], float32."""
        down, across = self._sides
        row, column = divmod(number, len(across.starts))
        return down.weights[row][:, None] * across.weights[column]

    def cut(self, image: np.ndarray, number: int) -> np.ndarray:
        """Return the tile `(C, h, w)` at the tiling's size; where the image is narrower, its border is repeated."""
        part = self.boxes[number].cut(image)
        missing = [wanted - found for wanted, found in zip(self.tiling.size, part.shape[1:], strict=True)]
        return np.pad(part, [(0, 0), *((0, count) for count in missing)], mode="edge") if any(missing) else part

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.boxes)))

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def _sides(self) -> tuple["_Side", "_Side"]:
        height, width = (
            _Side.divided(length, side, self.tiling.overlap)
            for length, side in zip(self.own, self.tiling.size, strict=True)
        )
        return height, width


@dataclass(frozen=True)
class _Side:
    """One direction: where tiles start, how many pixels of the image each has, and their weights."""

    starts: list[int]
    seen: int
    weights: list[np.ndarray]

    @classmethod
    def divided(cls, length: int, side: int, overlap: int) -> "_Side":
        """Divide `length` pixels evenly into tiles of `side` that share `overlap` or more."""
        if length <= side:
            return cls([0], length, [np.ones(length, np.float32)])
        count = math.ceil((length - overlap) / (side - overlap))
        starts = [int(start) for start in np.rint(np.linspace(0, length - side, count))]
        windows = [np.ones(side) for _ in starts]
        for one, other in zip(range(count), range(1, count), strict=False):
            shared = starts[one] + side - starts[other]
            rising = _ramp(shared)
            windows[other][:shared] *= rising
            windows[one][side - shared :] *= rising[::-1]
        total = np.zeros(length)
        for start, window in zip(starts, windows, strict=True):
            total[start : start + side] += window
        weights = [
            (window / total[start : start + side]).astype(np.float32)
            for start, window in zip(starts, windows, strict=True)
        ]
        return cls(starts, side, weights)


def _ramp(shared: int) -> np.ndarray:
    """Return a raised cosine from 0 to 1 over the middle half of the shared pixels, at their centres."""
    place = (np.arange(shared) + 0.5) / max(shared, 1)
    risen = np.clip((place - _MUTE) / (1 - 2 * _MUTE), 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * risen)


def tile_name(name: str, box: Box) -> str:
    """Return the name of a tile of the image with this name, by where it begins: ``a.png#tile=0,192``."""
    return f"{name}{_MARK}{box.top},{box.left}"


def whole_name(name: str) -> str:
    """Return the name of the image that a tile is of; that of a whole image as it is."""
    return name.partition(_MARK)[0]
