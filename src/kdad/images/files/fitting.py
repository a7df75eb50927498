"""How an image of any size becomes one of the model's size, and where that shows which part of it."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from kdad.errors import InputError
from kdad.images.files.alignment import Alignment, turn
from kdad.images.files.decoding import resize_image, resize_mask
from kdad.images.files.region import Region
from kdad.images.files.value_range import EIGHT_BITS, ValueRange

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
