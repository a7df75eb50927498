"""A set of large images as the set of their tiles."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.file_facts import FileFacts
from kdad.images.files.fitting import fit_image, fit_mask
from kdad.images.files.preparation import Preparation
from kdad.images.folder import FileSet
from kdad.images.image_set import ImageSet, Keep, Sample, hash_content
from kdad.images.labels import NORMAL
from kdad.images.tiling import TileGrid, Tiling, tile_name
from kdad.parameters.dataset import TileParameters


class TiledSet(ImageSet):
    """The tiles of a set's images, in their order; an image that one tile holds stays as it is.

    A tile of an anomalous image is anomalous when its part of the mask marks a pixel, else normal; an anomalous image
    without a mask is left out, since nobody knows which of its tiles are. Tiles are in the part of their image.
    """

    is_slow = True

    def __init__(self, images: FileSet, parameters: TileParameters) -> None:
        self._images = images
        self.name, self.category, self.size = images.name, images.category, images.size
        self.tiling = Tiling.of(parameters, images.size)
        self.samples: list[Sample] = []
        #: The row of each tile's image, and its grid and number there; no grid for whole images.
        self._tiles: list[tuple[int, TileGrid | None, int]] = []
        self._left_out = 0
        for row in range(len(images.samples)):
            self._add(row)
        self._of_row: dict[int, list[int]] = {}
        for index, (row, _, _) in enumerate(self._tiles):
            self._of_row.setdefault(row, []).append(index)
        # Tiles of one image follow one another, and it is decoded once for all of them: by one reader.
        self.most_readers = min(images.most_readers, 1)
        self._whole_image = lru_cache(maxsize=1)(images.whole_image)
        self._whole_mask = lru_cache(maxsize=1)(images.whole_mask)
        self._fingerprint = lru_cache(maxsize=1)(images.fingerprint)

    def _add(self, row: int) -> None:
        sample = self._images.samples[row]
        try:
            grid = TileGrid(self._images.whole_size(row), self.tiling)
            mask = self._images.whole_mask(row) if sample.label else None
        except InputError:  # it is among the problems
            grid, mask = None, None
        if grid is None or self.tiling.hold_whole(grid.own):
            self.samples.append(sample)
            self._tiles.append((row, None, 0))
            return
        if sample.label and mask is None:
            self._left_out += 1
            return
        for number in grid:
            box = grid.boxes[number]
            marked = mask is not None and bool(box.cut(mask).any())
            kind = sample.kind if marked else NORMAL
            self.samples.append(
                replace(sample, id=tile_name(sample.id, box), label=int(marked), kind=kind, has_mask=marked)
            )
            self._tiles.append((row, grid, number))

    @property
    def preparation(self) -> Preparation:
        """How files become the images of the set."""
        return self._images.preparation

    def image(self, index: int) -> np.ndarray:
        """Return the tile, fitted; raises `InputError` when the file cannot be read."""
        row, grid, number = self._tiles[index]
        if grid is None:
            return self._images.image(row)
        return fit_image(grid.cut(self._whole_image(row), number), self.size, "resize")

    def mask(self, index: int) -> np.ndarray | None:
        """Return the tile's part of the mask, fitted, or None; raises `InputError` when the file cannot be read."""
        row, grid, _ = self._tiles[index]
        if grid is None:
            return self._images.mask(row)
        own = self.own_mask(index)
        return None if own is None else fit_mask(own, self.size, "resize")

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the tile's part of the mask at its own resolution, or None; raises as `mask`."""
        row, grid, number = self._tiles[index]
        if grid is None:
            return self._images.own_mask(row)
        mask = self._whole_mask(row) if self.samples[index].has_mask else None
        if mask is None:
            return None
        return self._part_of(mask, grid, number)

    def _part_of(self, mask: np.ndarray, grid: TileGrid, number: int) -> np.ndarray:
        part = np.zeros(self.tiling.size, dtype=bool)  # beyond the image nothing is anomalous
        box = grid.boxes[number]
        part[: box.height, : box.width] = box.cut(mask)
        return part

    def own_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the tile before it is resized."""
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
            made.append((index, fit_image(grid.cut(image, number), self.size, "resize"), own, resized))
        return made

    def content(self) -> str:
        """Return a hash of the files and of how they are cut."""
        return hash_content(f"{self._images.content()} {self.tiling}".encode())

    def known(self) -> dict[str, Any]:
        """Return what is known of the files."""
        return self._images.known()

    def recall(self, known: dict[str, Any]) -> None:
        """Take what `known` returned."""
        self._images.recall(known)

    def remarks(self) -> list[tuple[str, str]]:
        """Say what was understood of the set, and how it was cut."""
        cut = {row for row, grid, _ in self._tiles if grid is not None}
        tiles = sum(grid is not None for _, grid, _ in self._tiles)
        said = f"{len(cut)} images in {tiles} of {self.tiling} or more; tiles of an anomalous image are by its mask"
        if self._left_out:
            said += f"; {self._left_out} anomalous images without a mask are left out"
        return [*self._images.remarks(), ("tiles", said)]

    def facts(self, index: int) -> FileFacts | None:
        """Return what is known of the file that the tile is of."""
        return self._images.facts(self._tiles[index][0])

    def fingerprint(self, index: int) -> str:
        """Return a hash of the file's content and of which part of it this is."""
        row, grid, number = self._tiles[index]
        if grid is None:
            return self._images.fingerprint(row)
        return hash_content(f"{self._fingerprint(row)} {grid.boxes[number]} {self.tiling}".encode())
