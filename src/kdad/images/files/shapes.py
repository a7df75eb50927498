"""From what annotations draw (outlines, boxes, circles, bitmaps) to the pixels that are anomalous."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kdad.errors import InputError

Size = tuple[int, int]
Ring = tuple[tuple[float, float], ...]

_BEYOND = 1.0  # pixels that a shape may reach beyond its image: tools round differently


@dataclass(frozen=True)
class Bitmap:
    """Pixels of a box of an image, column by column: the lengths of runs that are not marked and marked by turns."""

    top: int
    left: int
    size: Size
    runs: tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """One object of a `kind`, and `where` it stands, for messages: a ring of points, a circle, or a bitmap.

    Points (x, y) begin at the image's upper left corner, and are pixels, or where `relative` shares of its width and
    height; the pixel in row r and column c reaches from (c, r) to (c + 1, r + 1). A circle is (x, y, radius).
    """

    where: str
    kind: str
    ring: Ring = ()
    circle: tuple[float, float, float] | None = None
    bitmap: Bitmap | None = None
    relative: bool = False

    def draw(self, size: Size) -> np.ndarray:
        """Return bool `(H, W)`: pixels whose centre lies in the shape or on its border; one at least.

        Raises `InputError` for a shape that reaches beyond the image.
        """
        from skimage.draw import polygon2mask  # late: few sets have annotations

        mask = np.zeros(size, dtype=bool)
        points = np.array(self._corners(), dtype=float)
        if self.relative:
            points *= [size[1], size[0]]
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        if min(left, top) < -_BEYOND or right > size[1] + _BEYOND or bottom > size[0] + _BEYOND:
            raise InputError(
                f"{self.where}: reaches from x {left:g}, y {top:g} to x {right:g}, y {bottom:g}, beyond its image, "
                f"which is {size[1]} wide and {size[0]} high; correct or remove it"
            )
        if self.bitmap is not None:
            height, width = self.bitmap.size
            marked = np.repeat(np.arange(len(self.bitmap.runs)) % 2 == 1, self.bitmap.runs)
            mask[self.bitmap.top :, self.bitmap.left :][:height, :width] = marked.reshape(width, height).T
            return mask
        if self.circle is not None:
            x, y, radius = self.circle
            rows, columns = np.ogrid[: size[0], : size[1]]
            mask = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= radius**2
        else:
            mask = polygon2mask(size, points[:, ::-1] - 0.5)  # its pixels' centres are whole numbers
        if not mask.any():  # it lies between the centres of pixels
            column, row = points.mean(axis=0).astype(int)
            mask[min(max(row, 0), size[0] - 1), min(max(column, 0), size[1] - 1)] = True
        return mask

    def _corners(self) -> Ring:
        if self.circle is not None:
            x, y, radius = self.circle
            return (x - radius, y - radius), (x + radius, y + radius)
        if self.bitmap is not None:
            (height, width), top, left = self.bitmap.size, self.bitmap.top, self.bitmap.left
            return (left, top), (left + width, top + height)
        return self.ring


@dataclass(frozen=True)
class Annotated:
    """What an annotation says of one `image` (a name or path): its objects, and its size where that is said."""

    file: Path
    image: str
    shapes: tuple[Shape, ...]
    size: Size | None = None

    @property
    def kind(self) -> str:
        """The kinds of its objects, as one name."""
        return "+".join(sorted({shape.kind for shape in self.shapes}))

    @property
    def content(self) -> str:
        """What is drawn, wherever the file lies."""
        return repr([self.size, *(replace(shape, where="") for shape in self.shapes)])

    def draw(self, size: Size) -> np.ndarray:
        """Return what its objects mark of an image of this size, bool `(H, W)`.

        Raises `InputError` for an object beyond the image, and an image of another size than the annotation says.
        """
        if self.size not in (None, size):
            raise InputError(
                f"{self.file}: says that {self.image} is {self.size[0]} x {self.size[1]}, and it is {size[0]} x "
                f"{size[1]} (height x width); annotate the image as it is"
            )
        mask = np.zeros(size, dtype=bool)
        for shape in self.shapes:
            mask |= shape.draw(size)
        return mask


def numbers(values: Iterable[object], where: str) -> list[float]:
    """Return values as finite numbers; raises `InputError` for one that is none."""
    found = []
    for value in values:
        try:
            number = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{where}: has the coordinate {value!r}, which is no number; correct or remove it")
        found.append(number)
    return found


def outline(where: str, kind: str, points: Iterable[float], relative: bool = False) -> Shape:
    """Return the outline through points x, y, x, y, ...; raises `InputError` for fewer than three, or without area."""
    flat = list(points)
    ring = tuple(zip(flat[::2], flat[1::2], strict=False))
    if len(flat) % 2 or len(ring) < 3:
        raise InputError(f"{where}: has {len(flat)} numbers; an outline has x and y of three points at least")
    if np.linalg.matrix_rank(np.array(ring) - ring[0]) < 2:
        raise InputError(f"{where}: has no area, since its points lie on a line; correct or remove it")
    return Shape(where, kind, ring, relative=relative)


def box(where: str, kind: str, left: float, top: float, right: float, bottom: float, relative: bool = False) -> Shape:
    """Return a box; raises `InputError` for one without area."""
    if not (left < right and top < bottom):
        raise InputError(
            f"{where}: has no area: it reaches from x {left:g}, y {top:g} to x {right:g}, y {bottom:g}; correct or "
            "remove it"
        )
    return Shape(where, kind, ((left, top), (right, top), (right, bottom), (left, bottom)), relative=relative)
