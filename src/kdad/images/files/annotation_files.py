"""Annotation files (Pascal VOC, LabelMe, COCO, YOLO), and what they draw as pixels that are anomalous.

What is wrong is said with file and object.
"""

import base64
import io
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

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


#: What a file says of its images, and what is wrong with it.
Parsed = tuple[list[Annotated], list[str]]


def parse(file: Path, classes: list[str] | None = None) -> tuple[str, Parsed] | None:
    """Return the format of an annotation file with what it says; None for a file that is none.

    Lines of numbers (``.txt``) are YOLO's, whose `classes` have these names. Raises `InputError` for a file that
    cannot be read.
    """
    if file.suffix.lower() == ".txt":
        return "YOLO", _parse_yolo(file, classes or [])
    if file.suffix.lower() == ".xml":
        return _parse_xml(file)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}); write it anew") from error
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return "COCO", _parse_coco(file, content)
    if "shapes" in content and content.keys() & {"imagePath", "imageHeight", "imageData", "version"}:
        return "LabelMe", _parse_labelme(file, content)
    return None


def _collect(
    read: Callable[[int, Any], list[Shape]], objects: Iterable[Any], file: Path, image: str, size: Size | None
) -> Parsed:
    """Return an image with its objects, each read with its number, and the problems of those that cannot be."""
    shapes: list[Shape] = []
    problems = []
    for number, one in enumerate(objects, 1):
        try:
            shapes += read(number, one)
        except InputError as error:
            problems.append(str(error))
    return [Annotated(file, image, tuple(shapes), size)], problems


def _parse_xml(file: Path) -> tuple[str, Parsed] | None:
    """Read Pascal VOC: boxes from and to pixels counted from 1, both within the box."""
    try:
        root = ElementTree.fromstring(file.read_bytes())  # expat limits what entities grow to
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{file}: cannot be read as XML ({error}); write it anew") from error
    if root.tag != "annotation":
        return None

    def read(number: int, node: ElementTree.Element) -> list[Shape]:
        where = f"{file}, object {number}"
        name, corners = (node.findtext("name") or "").strip(), node.find("bndbox")
        if not name:
            raise InputError(f"{where}: has no name; say the kind of defect")
        if corners is None:
            raise InputError(f"{where}: has no bndbox; add one, or remove it")
        sides = [corners.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = numbers(sides, where)
        return [box(where, name, left - 1, top - 1, right, bottom)]

    size = _size([root.findtext(f"size/{side}") or "0" for side in ("height", "width")], file)
    return "Pascal VOC", _collect(read, root.iter("object"), file, (root.findtext("filename") or "").strip(), size)


def _parse_labelme(file: Path, content: dict[str, Any]) -> Parsed:
    if not isinstance(content["shapes"], list):
        return [], [f"{file}: its shapes are no list; write it anew"]

    def read(number: int, drawn: dict[str, Any]) -> list[Shape]:
        where = f"{file}, shape {number}"
        if not isinstance(drawn, dict) or not isinstance(drawn.get("points"), list) or not drawn.get("label"):
            raise InputError(f"{where}: has no label or no points; correct or remove it")
        name, kind = str(drawn["label"]), drawn.get("shape_type") or "polygon"
        if not all(isinstance(point, list) and len(point) == 2 for point in drawn["points"]):
            raise InputError(f"{where}: has a point that is no pair of x and y; correct or remove it")
        flat = numbers((value for point in drawn["points"] for value in point), where)
        if kind == "polygon":
            return [outline(where, name, flat)]
        if kind in ("rectangle", "mask") and len(flat) >= 4:
            left, right, top, bottom = min(flat[::2]), max(flat[::2]), min(flat[1::2]), max(flat[1::2])
            if kind == "rectangle":
                return [box(where, name, left, top, right, bottom)]
            return [Shape(where, name, bitmap=_bitmap_of(drawn.get("mask"), round(left), round(top), where))]
        if kind == "circle" and len(flat) == 4:
            x, y, *edge = flat
            radius = float(np.hypot(edge[0] - x, edge[1] - y))
            if not radius:
                raise InputError(f"{where}: has no area: its radius is 0; correct or remove it")
            return [Shape(where, name, circle=(x, y, radius))]
        raise InputError(
            f"{where}: is a {kind} of {len(flat) // 2} points, which covers no area; draw a polygon, rectangle, circle "
            "or mask"
        )

    size = _size([content.get("imageHeight") or 0, content.get("imageWidth") or 0], file)
    image = Path(str(content.get("imagePath") or "").replace("\\", "/")).name
    return _collect(read, content["shapes"], file, image, size)


def _bitmap_of(encoded: object, left: int, top: int, where: str) -> Bitmap:
    """Return a mask that LabelMe keeps as a PNG in base64, with its upper left corner."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(encoded), validate=True)), formats=("PNG",)) as file:
            pixels = np.asarray(file.convert("L")) > 0
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InputError(f"{where}: its mask cannot be read ({error}); draw it anew") from error
    return Bitmap(top, left, pixels.shape, _runs_of(pixels.T.reshape(-1)))


def _runs_of(flat: np.ndarray) -> tuple[int, ...]:
    ends = [*np.flatnonzero(np.diff(flat)) + 1, flat.size]
    runs = np.diff([0, *ends]).tolist()
    return tuple([0, *runs] if flat[0] else runs)


def _parse_coco(file: Path, content: dict[str, Any]) -> Parsed:
    problems: list[str] = []
    images: dict[Any, dict[str, Any]] = {}
    for number, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
            problems.append(f"{file}, image {number}: has no id or no file_name; add it")
        elif image["id"] in images:
            problems.append(f"{file}, image {number}: has the id {image['id']} of another image; give each its own")
        else:
            images[image["id"]] = image
    categories = content.get("categories")
    known = {one.get("id"): str(one.get("name")) for one in categories or [] if isinstance(one, dict)}
    sizes = {key: _size([one.get("height") or 0, one.get("width") or 0], file) for key, one in images.items()}
    shapes: dict[Any, list[Shape]] = {key: [] for key in images}
    for number, annotation in enumerate(content["annotations"], 1):
        said = annotation.get("id", number) if isinstance(annotation, dict) else number
        where = f"{file}, annotation {said}"
        try:
            if not isinstance(annotation, dict) or annotation.get("image_id") not in images:
                raise InputError(f"{where}: belongs to no image of the file; correct its image_id, or remove it")
            key, category = annotation["image_id"], annotation.get("category_id")
            if category not in known:
                raise InputError(f"{where}: has the category {category}, which is not among the file's; add it there")
            shapes[key] += _coco_shapes(annotation, known[category], where, sizes[key])
        except InputError as error:
            problems.append(str(error))
    return [
        Annotated(file, str(image["file_name"]).replace("\\", "/"), tuple(shapes[key]), sizes[key])
        for key, image in images.items()
    ], problems


def _coco_shapes(annotation: dict[str, Any], name: str, where: str, size: Size | None) -> list[Shape]:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        return [Shape(where, name, bitmap=_read_runs(drawn, where, size))]
    if isinstance(drawn, list) and drawn:
        rings = drawn if isinstance(drawn[0], list) else [drawn]
        return [outline(where, name, numbers(ring, where)) for ring in rings]
    sides = annotation.get("bbox")
    if not isinstance(sides, list) or len(sides) != 4:
        raise InputError(f"{where}: has neither a segmentation nor a bbox of four numbers; draw it, or remove it")
    left, top, width, height = numbers(sides, where)
    return [box(where, name, left, top, left + width, top + height)]


def _read_runs(drawn: dict[str, Any], where: str, size: Size | None) -> Bitmap:
    """Read a run-length encoding of COCO, as numbers or as its text of 6 bits a letter."""
    try:
        height, width = (int(side) for side in drawn["size"])
        counts = drawn["counts"]
        runs = _runs_of_text(counts) if isinstance(counts, str) else [int(count) for count in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{where}: has a run-length encoding that cannot be read; encode it anew") from error
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise InputError(
            f"{where}: has runs of {sum(runs)} pixels together, and its size is {height} x {width}; encode it anew"
        )
    if size not in (None, (height, width)):
        raise InputError(
            f"{where}: is encoded for {height} x {width}, and its image is {size[0]} x {size[1]} (height x width); "
            "encode it anew"
        )
    return Bitmap(0, 0, (height, width), tuple(runs))


def _runs_of_text(text: str) -> list[int]:
    """Decode COCO's text: 5 bits a letter from the lowest, the sixth for more; differences from the run before last."""
    runs: list[int] = []
    letters = iter(text)
    for letter in letters:
        value, shift = 0, 0
        while True:
            bits = ord(letter) - 48
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                break
            letter = next(letters, "")  # a number goes on; an end within one is a TypeError
        value -= (1 << shift) if bits & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _parse_yolo(file: Path, classes: list[str]) -> Parsed:
    """Read a line an object: its class, then centre, width and height of a box, or points; shares of the image."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); write it anew") from error

    def read(number: int, line: str) -> list[Shape]:
        if not line.strip():
            return []
        where = f"{file}, line {number}"
        first, *rest = line.split()
        if not first.isdecimal() or (classes and int(first) >= len(classes)):
            known = f", and there are {len(classes)}, from 0" if classes else ""
            raise InputError(f"{where}: begins with '{first}', which is no class's number{known}; correct it")
        name = classes[int(first)] if classes else f"class_{int(first)}"
        values = numbers(rest, where)
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise InputError(
                f"{where}: has {len(values)} numbers after its class; a box has 4, an outline x and y of three points"
            )
        if not all(0 <= value <= 1 for value in values):
            raise InputError(f"{where}: has {max(values, key=abs):g}, and numbers are shares of the image, 0 to 1")
        if len(values) > 4:
            return [outline(where, name, values, relative=True)]
        x, y, width, height = values
        sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return [box(where, name, *sides, relative=True)]

    return _collect(read, lines, file, "", None)


def _size(sides: list[object], file: Path) -> Size | None:
    """Return height and width where an annotation says them; zeros are left by tools that do not know them."""
    height, width = (int(side) for side in numbers(sides, f"{file}, size"))
    return (height, width) if height > 0 and width > 0 else None
