"""Anomaly maps laid over their images, and thumbnails of them; what a server shows, without Matplotlib."""

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from kdad.images.files.decoding import resize_image
from kdad.images.files.fitting import Placement

#: Colours of anomaly maps: dark blue is normal, yellow is anomalous, even in luminance.
HEAT = ("#0d1b3e", "#4a2377", "#a62c6d", "#e8603c", "#fbb61a", "#fcfdbf")
#: The longer side of a thumbnail in pixels.
THUMBNAIL_SIDE = 160

_PIXELS_AT_ONCE = 1 << 17  # of an overlay; as many as stay in a processor's cache
_COLOURS = 256
_UNSEEN = 0.5  # of the brightness of what a detector was not shown


def encode_picture(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture as the content of a file, of a format and with options that Pillow knows."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def picture_of(image: np.ndarray) -> Image.Image:
    """Return an image `(3, H, W)` in [0, 1] as a picture."""
    return Image.fromarray(np.rint(np.moveaxis(image, 0, -1) * 255).astype(np.uint8))


def overlay_heat(image: np.ndarray, anomaly_map: np.ndarray | None, limits: tuple[float, float]) -> Image.Image:
    """Lay a map `(h, w)` over the image `(3, H, W)` in [0, 1] at the image's size; without a map, the plain image.

    `limits` are the values of the map that get the first and the last colour; equal limits in all pictures make them
    comparable.
    """
    height, width = image.shape[1:]
    source = None if anomaly_map is None else Image.fromarray(np.ascontiguousarray(anomaly_map))
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(_PIXELS_AT_ONCE // width, 1)
    for top in range(0, height, rows):
        part = image[:, top : top + rows]
        values = np.moveaxis(part, 0, -1)  # (rows, W, 3)
        if source is not None:
            bottom = top + part.shape[1]
            box = (0, top * source.height / height, source.width, bottom * source.height / height)
            enlarged = source.resize((width, part.shape[1]), Image.Resampling.BILINEAR, box=box)
            values = blend_heat(part, np.asarray(enlarged), limits)
        pixels[top : top + rows] = np.rint(values * np.float32(255))
    return Image.fromarray(pixels)


def overlay_placed(
    image: np.ndarray, anomaly_map: np.ndarray | None, limits: tuple[float, float], placement: Placement | None
) -> Image.Image:
    """Lay a map over the part of the image that it shows, at the image's size; what was not scored is dark and grey."""
    if anomaly_map is None or placement is None:
        return overlay_heat(image, anomaly_map, limits)
    seen = placement.seen
    predicted = overlay_heat(seen.cut(image), placement.shown.cut(anomaly_map), limits)
    if (seen.height, seen.width) == image.shape[1:]:
        return predicted
    whole = overlay_heat(image * np.float32(_UNSEEN), None, limits).convert("L").convert("RGB")
    whole.paste(predicted, (seen.left, seen.top))
    return whole


def small_overlay(
    image: np.ndarray, anomaly_map: np.ndarray | None, limits: tuple[float, float], placement: Placement | None
) -> Image.Image:
    """Return the same of the image reduced to a thumbnail."""
    width, height = thumbnail_size(image.shape[2], image.shape[1])
    placement = placement and placement.of_size(height, width)
    return overlay_placed(resize_image(image, (height, width)), anomaly_map, limits, placement)


def blend_heat(image: np.ndarray, anomaly_map: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Blend the image `(3, H, W)` in [0, 1], in grey, with its map `(H, W)` in colour; `(H, W, 3)` in [0, 1].

    The hotter a pixel, the less of the image shows.
    """
    low, high = (float(limit) for limit in limits)  # a NumPy double would widen all arrays of a large photograph
    heat = np.clip((anomaly_map - low) * (1 / max(high - low, 1e-12)), 0, 1)
    opacity = 0.15 + 0.75 * heat
    clear = (1 - opacity) * (image[0] + image[1] + image[2]) * (1 / 3)
    places = np.minimum(heat * _COLOURS, _COLOURS - 1).astype(np.uint8)
    blended = np.empty((*heat.shape, 3), np.float32)
    for channel, colours in enumerate(_heat_colours()):
        np.multiply(opacity, np.take(colours, places), out=blended[..., channel])
        blended[..., channel] += clear
    return np.clip(blended, 0, 1, out=blended)


def heat_table() -> np.ndarray:
    """Return the colours of heat from 0 to 1 as `(256, 3)`, uint8."""
    knots = [[int(code[at : at + 2], 16) for at in (1, 3, 5)] for code in HEAT]
    steps, places = np.linspace(0, 1, _COLOURS), np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(steps, places, channel) for channel in zip(*knots, strict=True)], axis=1).astype(
        np.uint8
    )


@cache
def _heat_colours() -> np.ndarray:
    """Return the same as `(3, 256)`, float32 in [0, 1]."""
    return np.ascontiguousarray(heat_table().T / np.float32(255))


def thumbnail(picture: Image.Image, side: int = THUMBNAIL_SIDE) -> Image.Image:
    """Return the picture with its longer side reduced to `side` pixels; a smaller picture keeps its size."""
    return picture.resize(thumbnail_size(picture.width, picture.height, side), Image.Resampling.LANCZOS, reducing_gap=4)


def thumbnail_size(width: int, height: int, side: int = THUMBNAIL_SIDE) -> tuple[int, int]:
    """Return width and height of the thumbnail of a picture of this size, each at least 1."""
    scale = min(1, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
