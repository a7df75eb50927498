"""How an image of any size becomes one of the model's size, and where that shows which part of it.

Before that a region of it may count alone, and parts in any pose are turned about their middle until they lie as the
training images' mean does. scikit-image is imported by what needs it, since it takes half a second.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt, model_validator

from kdad.errors import InputError
from kdad.images.files.annotation_files import numbers, outline, parse
from kdad.images.files.decoding import resize_image, resize_mask
from kdad.images.files.mask_files import read_mask
from kdad.images.files.value_range import EIGHT_BITS, ValueRange
from kdad.parameters.strict import StrictModel

_ANGLES, _RADII = 360, 32
_ROUNDS = 4  # of turning all to their mean, and taking that anew


def _pack(content: bytes) -> str:
    return b64encode(zlib.compress(content, 9)).decode("ascii")


def _unpack(packed: str, size: int) -> bytes:
    """Return the `size` bytes that were packed; raises `ValueError` for any other text, however long it unpacks."""
    try:
        content = zlib.decompressobj().decompress(b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"its text cannot be read ({error})") from None
    if len(content) != size:
        raise ValueError(f"its text has {len(content)} bytes, not {size}")
    return content


class Alignment(StrictModel):
    """How the training images lie, as text, so that a detector's facts hold it."""

    model_config = ConfigDict(frozen=True)

    packed: str = Field(description="base64 of zlib of their mean in grey: 360 angles of 32 radii, a byte each")

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Self:
        """Return how images `(3, H, W)` lie on the whole, once all are turned as the first."""
        polar = np.stack([_polar(image) for image in images])
        mean = polar[0]
        for _ in range(_ROUNDS):
            spectrum = _spectrum(mean)
            mean = np.mean([np.roll(one, -_angle(one, spectrum), axis=0) for one in polar], axis=0)
        return cls(packed=_pack(np.rint(mean * 255).astype(np.uint8).tobytes()))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _unpacked_spectrum(self.packed)
        return self

    def angle(self, image: np.ndarray) -> float:
        """Return by how many degrees anticlockwise an image `(3, H, W)` is to be turned, in [0, 360).

        Where its correlation with the mean is highest, both in polar coordinates about the middle (Fourier shift
        theorem along the angle). It is not whitened, as phase correlation is: noise of smooth parts would decide.
        """
        return float(_angle(_polar(image), _unpacked_spectrum(self.packed)))


def turn(
    planes: np.ndarray,
    degrees: float,
    stretch: float = 1.0,
    middle: tuple[float, float] | None = None,
    *,
    nearest: bool = False,
    fill: float | None = None,
) -> np.ndarray:
    """Return `(C, H, W)` turned anticlockwise about its middle; what comes from outside is `fill`, None: its border.

    `stretch` is how much wider its pixels make things than taller, of a picture that was resized to other proportions.
    Another `middle` (x, y) counts from the first pixel's centre.
    """
    from skimage.transform import warp

    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about = (np.array(planes.shape[:0:-1]) - 1) / 2 if middle is None else np.array(middle)
    back = np.array([[cos, -sin * stretch], [sin / stretch, cos]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = back, about - back @ about
    given = {"order": 0 if nearest else 1, "mode": "edge" if fill is None else "constant", "cval": fill or 0.0}
    turned = [warp(plane.astype(np.float32), matrix, preserve_range=True, **given) for plane in planes]
    return np.stack(turned).astype(planes.dtype)


def _polar(image: np.ndarray) -> np.ndarray:
    """Return the grey values on circles about the middle, `(angles, radii)`, up to the nearest side."""
    from skimage.transform import warp_polar

    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(image[:, top : top + side, left : left + side])
    grey = resize_image(middle, (2 * _RADII, 2 * _RADII)).mean(axis=0)
    return warp_polar(grey, radius=_RADII, output_shape=(_ANGLES, _RADII), mode="edge").astype(np.float32)


def _spectrum(polar: np.ndarray) -> np.ndarray:
    """Return the Fourier transform along the angle; an outer circle counts as it has pixels, its mean does not."""
    weights = np.arange(polar.shape[1]) + 0.5
    return np.fft.rfft((polar - polar.mean(axis=0)) * np.sqrt(weights), axis=0)


def _angle(polar: np.ndarray, reference: np.ndarray) -> int:
    return int(np.fft.irfft((_spectrum(polar) * reference.conj()).sum(axis=1), n=_ANGLES).argmax())


@lru_cache(maxsize=16)  # not in the alignment itself: they are compared, and arrays cannot be
def _unpacked_spectrum(packed: str) -> np.ndarray:
    content = _unpack(packed, _ANGLES * _RADII)
    return _spectrum(np.frombuffer(content, np.uint8).reshape(_ANGLES, _RADII) / np.float32(255))


#: What pixels outside become, in [0, 1].
OUTSIDE = 0.5


class Region(StrictModel):
    """The pixels that count of images of one size, as text, so that a detector's facts hold it."""

    model_config = ConfigDict(frozen=True)

    height: PositiveInt
    width: PositiveInt
    packed: str = Field(description="base64 of zlib of 8 pixels a byte, row by row; 1 counts")

    @classmethod
    def of(cls, mask: np.ndarray) -> Self:
        """Return the region of a mask, bool `(H, W)`, True where pixels count."""
        return cls(height=mask.shape[0], width=mask.shape[1], packed=_pack(np.packbits(mask).tobytes()))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _unpacked_mask(self)
        return self

    @property
    def mask(self) -> np.ndarray:
        """The pixels that count, bool `(H, W)`; only to be read."""
        return _unpacked_mask(self)

    def difference(self, size: tuple[int, ...]) -> str | None:
        """Say how an image's `size` (height, width) is not the region's; None where it is."""
        if tuple(size) == (self.height, self.width):
            return None
        return f"is {size[0]} x {size[1]}, and the region that counts {self.height} x {self.width} (height x width)"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return an image `(3, H, W)` with the same grey everywhere outside; raises `InputError` for another size."""
        wrong = self.difference(image.shape[1:])
        if wrong is not None:
            raise InputError(f"the image {wrong}; give one that was taken as the detector's own were")
        return np.where(self.mask, image, np.float32(OUTSIDE))

    def share(self) -> float:
        """Return which share of the pixels counts."""
        return float(self.mask.mean())


@lru_cache(maxsize=16)  # not in the region itself: regions are compared, and arrays cannot be
def _unpacked_mask(region: Region) -> np.ndarray:
    pixels = region.height * region.width
    bits = np.unpackbits(np.frombuffer(_unpack(region.packed, -(-pixels // 8)), np.uint8), count=pixels)
    return bits.reshape(region.height, region.width).astype(bool)


def read_region(path: Path, size: tuple[int, int] | None = None) -> Region:
    """Read a region from a mask file, white where pixels count, or from the outlines of a JSON (LabelMe, or points).

    Outlines are drawn at the `size` (height, width) of the set's images, where LabelMe says none. Raises `InputError`
    for no file, for outlines beyond the image, and where no pixel counts.
    """
    if not path.is_file():
        raise InputError(
            f"dataset.region: there is no file {path}; give an image that is white where pixels count, or a JSON of "
            "outlines"
        )
    if path.suffix.lower() == ".json":
        return _read_outlines(path, size)
    mask = read_mask(path)
    if not mask.any():
        raise InputError(f"{path}: marks nothing, so that no pixel would count; make it white where pixels count")
    return Region.of(mask)


def _read_outlines(path: Path, size: tuple[int, int] | None) -> Region:
    parsed = parse(path)
    if parsed is None:
        return region_within(json.loads(path.read_text(encoding="utf-8-sig")), size, str(path))
    name, (annotated, problems) = parsed
    shapes = annotated[0] if annotated else None
    if problems or name != "LabelMe" or shapes is None or not shapes.shapes:
        raise InputError(problems[0] if problems else f"{path}: draws no region; give LabelMe's JSON of one image")
    return Region.of(shapes.draw(shapes.size or _known(size, str(path))))


def region_within(points: object, size: tuple[int, int] | None, where: str = "dataset.region") -> Region:
    """Return the pixels within the outline through points [x, y] of images of a `size` (height, width).

    Raises `InputError` for fewer than three points, no area, and an outline beyond the image.
    """
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(
            f"{where}: is no outline: neither of LabelMe nor points [x, y], such as [[10, 10], [90, 10], [50, 90]]"
        )
    flat = numbers([value for x, y in points for value in (x, y)], where)
    return Region.of(outline(where, "region", flat).draw(_known(size, where)))


def _known(size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    if size is None:
        raise InputError(
            f"{where}: the size of no image can be read, so that no outline can be drawn; look at the files"
        )
    return size


#: ``resize`` stretches to the size; ``letterbox`` keeps the aspect ratio and fills the rest with the border's pixels;
#: ``centre_crop`` keeps it and cuts off what stands over.
Fit = Literal["resize", "letterbox", "centre_crop"]
Size = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A part of an image or a map, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return this part of `(..., H, W)`, without copying it."""
        return array[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Placement:
    """The part of an image that is `seen`, and the part of its map where it is `shown`; `own` is the image's size.

    Before it was seen, the image was `turned` about its middle, degrees anticlockwise.
    """

    own: Size
    seen: Box
    shown: Box
    turned: float = 0.0

    def of_size(self, height: int, width: int) -> "Placement":
        """Return the placement of the same image at another size."""
        down, across = height / self.own[0], width / self.own[1]
        top, left = round(self.seen.top * down), round(self.seen.left * across)
        bottom, right = (self.seen.top + self.seen.height) * down, (self.seen.left + self.seen.width) * across
        box = Box(top, left, max(round(bottom) - top, 1), max(round(right) - left, 1))
        return Placement((height, width), box, self.shown, self.turned)

    def turn_back(self, anomaly_map: np.ndarray) -> np.ndarray:
        """Return a map `(H, W)` that lies as the image does; what was not seen has its lowest value."""
        if not self.turned:
            return anomaly_map
        across, down = self.shown.width / self.seen.width, self.shown.height / self.seen.height
        # The image's middle, which is half a pixel off the map's where a margin is wider than its opposite.
        middle = (
            self.shown.left + (self.own[1] / 2 - self.seen.left) * across - 0.5,
            self.shown.top + (self.own[0] / 2 - self.seen.top) * down - 0.5,
        )
        return turn(anomaly_map[None], -self.turned, across / down, middle, fill=float(anomaly_map.min()))[0]

    def turn_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return the mask `(H, W)` of the image turned with it; what comes from outside is not anomalous."""
        return turn(mask[None], self.turned, nearest=True, fill=0.0)[0] if self.turned else mask

    def own_box(self, rows: slice, columns: slice) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 in the image's own pixels of a box of the part of the map where it is shown."""
        down, across = self.seen.height / self.shown.height, self.seen.width / self.shown.width
        left, right = (self.seen.left + round(column * across) for column in (columns.start, columns.stop))
        top, bottom = (self.seen.top + round(row * down) for row in (rows.start, rows.stop))
        return left, top, max(right, left + 1), max(bottom, top + 1)


def place(own: Size, size: Size, fit: Fit) -> Placement:
    """Return where an image of its `own` size (height, width) lies in one of `size`."""
    whole, full = Box(0, 0, *own), Box(0, 0, *size)
    scales = (size[0] / own[0], size[1] / own[1])
    if fit == "letterbox":
        return Placement(own, whole, _centred(size, min(scales), own))
    if fit == "centre_crop":
        return Placement(own, _centred(own, 1 / max(scales), size), full)
    return Placement(own, whole, full)


def frame_of(own: Size, size: Size, fit: Fit) -> Size:
    """Return the frame that an image of its `own` size fits without being scaled, of the proportions of `size`."""
    scales = (size[0] / own[0], size[1] / own[1])
    if fit == "resize":  # stretched images have none but their own
        return own
    scale = min(scales) if fit == "letterbox" else max(scales)
    height, width = (max(round(side / scale), 1) for side in size)
    return height, width


def fit_image(image: np.ndarray, size: Size, fit: Fit) -> np.ndarray:
    """Fit `(C, H, W)` to `size` (height, width), bilinear and antialiased."""
    placed = place(image.shape[1:], size, fit)
    resized = resize_image(np.ascontiguousarray(placed.seen.cut(image)), (placed.shown.height, placed.shown.width))
    # A bar of one colour would be an edge that networks see.
    return resized if fit != "letterbox" else np.pad(resized, [(0, 0), *_margins(placed.shown, size)], mode="edge")


def fit_mask(mask: np.ndarray, size: Size, fit: Fit) -> np.ndarray:
    """Fit bool `(H, W)` to `size` as its image is, by the nearest pixel; what is filled is not anomalous."""
    placed = place(mask.shape, size, fit)
    resized = resize_mask(np.ascontiguousarray(placed.seen.cut(mask)), (placed.shown.height, placed.shown.width))
    return resized if fit != "letterbox" else np.pad(resized, _margins(placed.shown, size))


def _centred(outer: Size, scale: float, inner: Size) -> Box:
    """Return the box in the middle of `outer` that is as large as `inner` times `scale`."""
    height, width = (min(max(round(side * scale), 1), most) for side, most in zip(inner, outer, strict=True))
    return Box((outer[0] - height) // 2, (outer[1] - width) // 2, height, width)


def _margins(box: Box, size: Size) -> list[tuple[int, int]]:
    """Return how many pixels are missing above and below, left and right of a box."""
    return [(box.top, size[0] - box.top - box.height), (box.left, size[1] - box.left - box.width)]


@dataclass(frozen=True)
class Preparation:
    """How files become images: the fit, which values are 0 and 1 (None: the type's limits), which bands are taken.

    Of all images only the pixels of a `region` count, where there is one; with an `alignment` each is turned first. It
    belongs to a set of images, and to each detector that was made of them. With `in_tiles` these are tiles, and the
    region is of the images that they are parts of.
    """

    fit: Fit = "resize"
    values: ValueRange | None = EIGHT_BITS
    bands: tuple[int, ...] | None = None
    region: Region | None = field(default=None, repr=False)
    alignment: Alignment | None = field(default=None, repr=False)
    in_tiles: bool = field(default=False, repr=False)

    def placed(self, image: np.ndarray, size: Size, known: Placement | None = None) -> tuple[np.ndarray, Placement]:
        """Return an image `(3, H, W)` of `size`, with one grey outside of the region, and where it lies in that.

        A `known` placement is the image's own. Raises `InputError` for an image of another size than the region's, and
        as `require_whole`.
        """
        self.require_whole()
        # Before anything is resized, which would mix pixels on either side of the border.
        image = image if self.region is None else self.region.apply(image)
        placement = known or place(image.shape[1:], size, self.fit)
        if self.alignment is not None:
            placement = known or replace(placement, turned=self.alignment.angle(image))
            image = turn(image, placement.turned)
        return fit_image(image, size, self.fit), placement

    def require_whole(self) -> None:
        """Raise `InputError` where a region is of images that are seen in tiles alone."""
        if self.in_tiles:
            raise InputError(
                "the detector has learnt tiles of a region, so that it predicts by tiles alone: in the pipeline "
                "inference, by inference.tiles"
            )

    def region_at(self, size: Size) -> np.ndarray | None:
        """Return which pixels count of images, or maps, of `size`, bool `(h, w)`; None where all do, or of tiles."""
        return None if self.region is None or self.in_tiles else _fitted_region(self.region, tuple(size), self.fit)


@lru_cache(maxsize=16)
def _fitted_region(region: Region, size: Size, fit: Fit) -> np.ndarray:
    return fit_mask(region.mask, size, fit)
