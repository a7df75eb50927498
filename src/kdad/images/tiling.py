"""Where the tiles of an image lie, how much say each has at each pixel; a large image as its tiles."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from kdad.errors import InputError
from kdad.images.files.fitting import Box, Preparation, Size, fit_image, fit_mask
from kdad.images.folder import FolderSet
from kdad.images.image_set import ImageSet, Keep, Sample, WrappedSet, hash_content
from kdad.images.layouts.layout import NORMAL
from kdad.images.splits import tile_name
from kdad.parameters.dataset import TileParameters

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
        (tops, height, _), (lefts, width, _) = self._sides
        return [Box(top, left, height, width) for top in tops for left in lefts]

    def weights(self, number: int) -> np.ndarray:
        """Return how much say the tile of this number has at each of its pixels `(h, w)`, in [0, 1], float32."""
        (_, _, down), (_, _, across) = self._sides
        row, column = divmod(number, len(across))
        return down[row][:, None] * across[column]

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
    def _sides(self) -> "list[_Side]":
        sides = zip(self.own, self.tiling.size, strict=True)
        return [_divide(length, side, self.tiling.overlap) for length, side in sides]


#: One direction: where tiles start, how many pixels of the image each has, and their weights.
_Side = tuple[list[int], int, list[np.ndarray]]


def _divide(length: int, side: int, overlap: int) -> _Side:
    """Divide `length` pixels evenly into tiles of `side` that share `overlap` or more."""
    if length <= side:
        return [0], length, [np.ones(length, np.float32)]
    count = math.ceil((length - overlap) / (side - overlap))
    starts = [int(start) for start in np.rint(np.linspace(0, length - side, count))]
    windows = np.ones((count, side))
    for one, other in pairwise(range(count)):
        shared = starts[one] + side - starts[other]
        # A raised cosine from 0 to 1 over the middle half of the shared pixels, at their centres.
        place = (np.arange(shared) + 0.5) / max(shared, 1)
        rising = 0.5 - 0.5 * np.cos(np.pi * np.clip((place - _MUTE) / (1 - 2 * _MUTE), 0, 1))
        windows[other][:shared] *= rising
        windows[one][side - shared :] *= rising[::-1]
    total = np.zeros(length)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + side] += window
    weights = [(w / total[start : start + side]).astype(np.float32) for start, w in zip(starts, windows, strict=True)]
    return starts, side, weights


class TiledSet(WrappedSet):
    """The tiles of a set's images, in their order; an image that one tile holds stays as it is.

    A tile of an anomalous image is anomalous when its part of the mask marks a pixel, else normal; an anomalous image
    without a mask is left out, since nobody knows which of its tiles are. Tiles are in the part of their image.
    """

    is_slow = True

    def __init__(self, images: FolderSet, parameters: TileParameters) -> None:
        self._images = images
        self.name, self.category, self.size = images.name, images.category, images.size
        self.tiling = Tiling.of(parameters, images.size)
        self.samples: list[Sample] = []
        #: The row of each tile's image, and its grid and number there; no grid for whole images.
        self._tiles: list[tuple[int, TileGrid | None, int]] = []
        self._left_out = self._outside = 0
        self._region = images.region
        if self._region and self.tiling.hold_whole((self._region.height, self._region.width)):
            raise InputError(
                f"dataset.tiles: one tile of {self.tiling} holds the {self._region.height} x {self._region.width} "
                "pixels of dataset.region; give smaller tiles, or set dataset.tiles=null"
            )
        for row in range(len(images.samples)):
            self._add(row)
        self._of_row: dict[int, list[int]] = {}
        for index, (row, _, _) in enumerate(self._tiles):
            self._of_row.setdefault(row, []).append(index)
        self._whole_image = lru_cache(maxsize=1)(images.whole_image)
        self._whole_mask = lru_cache(maxsize=1)(images.whole_mask)
        self._fingerprint = lru_cache(maxsize=1)(images.fingerprint)

    def _add(self, row: int) -> None:
        sample = self._images.samples[row]
        try:
            grid = TileGrid(self._images.whole_size(row), self.tiling)
            mask = self._images.whole_mask(row) if sample.label else None
            ignored = self._whole_ignored(row, grid)
        except InputError:  # it is among the problems
            grid, mask, ignored = None, None, None
        if grid is None or self.tiling.hold_whole(grid.own):
            self.samples.append(sample)
            self._tiles.append((row, None, 0))
            return
        if sample.label and mask is None:
            self._left_out += 1
            return
        for number in grid:
            box = grid.boxes[number]
            if ignored is not None and fit_mask(self._part_of(ignored, grid, number, True), self.size, "resize").all():
                self._outside += 1
                continue
            marked = mask is not None and bool(box.cut(mask).any())
            kind, name = sample.kind if marked else NORMAL, tile_name(sample.id, box.top, box.left)
            self.samples.append(replace(sample, id=name, label=int(marked), kind=kind, has_mask=marked))
            self._tiles.append((row, grid, number))

    @property
    def most_readers(self) -> int:
        """One: tiles of one image follow one another, and it is decoded once for all of them."""
        return min(self._images.most_readers, 1)

    def image(self, index: int) -> np.ndarray:
        row, grid, number = self._tiles[index]
        return self._images.image(row) if grid is None else self._tile(self._whole_image(row), grid, number)

    def _tile(self, image: np.ndarray, grid: TileGrid, number: int) -> np.ndarray:
        """Return a tile of a whole image at the model's size, with one grey outside of the region."""
        image = image if self._region is None else self._region.apply(image)
        return fit_image(grid.cut(image, number), self.size, "resize")

    @property
    def preparation(self) -> Preparation:
        """That of the images; a region is theirs, of which each tile has another part."""
        known = self._images.preparation
        return known if known.region is None else replace(known, in_tiles=True)

    def mask(self, index: int) -> np.ndarray | None:
        row, grid, _ = self._tiles[index]
        if grid is None:
            return self._images.mask(row)
        own = self.own_mask(index)
        return None if own is None else fit_mask(own, self.size, "resize")

    def own_mask(self, index: int) -> np.ndarray | None:
        row, grid, number = self._tiles[index]
        if grid is None:
            return self._images.own_mask(row)
        return self._part_of(self._whole_mask(row), grid, number) if self.samples[index].has_mask else None

    def ignored(self, index: int) -> np.ndarray | None:
        own = None if self._tiles[index][1] is None else self.own_ignored(index)
        return super().ignored(index) if own is None else fit_mask(own, self.size, "resize")

    def own_ignored(self, index: int) -> np.ndarray | None:
        row, grid, number = self._tiles[index]
        if grid is None:
            return super().own_ignored(index)
        ignored = self._whole_ignored(row, grid)
        return None if ignored is None else self._part_of(ignored, grid, number, beyond=True)

    def _whole_ignored(self, row: int, grid: TileGrid) -> np.ndarray | None:
        """Return which pixels of an image do not count, by its own mask and the region; raises `InputError`."""
        ignored = self._images.whole_ignored(row)
        if ignored is not None and ignored.shape != grid.own:
            raise InputError("the mask of ignored pixels has another size than its image")
        if self._region is None:
            return ignored
        if problem := self._region.difference(grid.own):
            raise InputError(problem)
        return ~self._region.mask if ignored is None else ~self._region.mask | ignored

    def _part_of(self, mask: np.ndarray, grid: TileGrid, number: int, beyond: bool = False) -> np.ndarray:
        part = np.full(self.tiling.size, beyond)  # beyond the image nothing is anomalous
        box = grid.boxes[number]
        part[: box.height, : box.width] = box.cut(mask)
        return part

    def _at(self, index: int) -> tuple[ImageSet, int]:
        return self._images, self._tiles[index][0]

    def own_size(self, index: int) -> tuple[int, int]:
        row, grid, _ = self._tiles[index]
        return self._images.own_size(row) if grid is None else self.tiling.size

    def problems(self, keep: Keep | None = None) -> list[str]:
        """List what is wrong with the set's files; each is decoded once for all of its tiles."""
        return self._images.problems(keep, self._cut)

    def _cut(self, row: int, image: np.ndarray, mask: np.ndarray | None) -> list[tuple]:
        """Return the tiles of a whole image, each with its part of the mask."""
        made = []
        for index in self._of_row.get(row, ()):
            _, grid, number = self._tiles[index]
            if grid is None:
                made += [(index, *one[1:]) for one in self._images.fitted(row, image, mask)]
                continue
            own = self._part_of(mask, grid, number) if self.samples[index].has_mask else None
            resized = None if own is None else fit_mask(own, self.size, "resize")
            made.append((index, self._tile(image, grid, number), own, resized))
        return made

    def content(self) -> str:
        return hash_content(f"{self._images.content()} {self.tiling}".encode())

    def remarks(self) -> list[tuple[str, str]]:
        """Say what was understood of the set, and how it was cut."""
        cut = {row for row, grid, _ in self._tiles if grid is not None}
        tiles = sum(grid is not None for _, grid, _ in self._tiles)
        said = f"{len(cut)} images in {tiles} of {self.tiling} or more; tiles of an anomalous image are by its mask"
        if self._outside:
            said += f"; {self._outside} of which no pixel counts are left out"
        if self._left_out:
            said += f"; {self._left_out} anomalous images without a mask are left out"
        return [*self._images.remarks(), ("tiles", said)]

    def fingerprint(self, index: int) -> str:
        row, grid, number = self._tiles[index]
        if grid is None:
            return self._images.fingerprint(row)
        return hash_content(f"{self._fingerprint(row)} {grid.boxes[number]} {self.tiling}".encode())
