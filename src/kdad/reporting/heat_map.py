"""An anomaly map laid over its image, and small pictures for lists of many."""

import numpy as np
from PIL import Image

from kdad.reporting.style import HEAT

#: The longer side of a thumbnail in pixels.
THUMBNAIL_SIDE = 160


def overlay_heat(image: np.ndarray, anomaly_map: np.ndarray | None, limits: tuple[float, float]) -> Image.Image:
    """Lay a map `(h, w)` over the image `(3, H, W)` in [0, 1] at the image's size; without a map, the plain image.

    `limits` are the values of the map that get the first and the last colour; equal limits in all pictures make them
    comparable.
    """
    values = np.moveaxis(image, 0, -1)  # (H, W, 3)
    if anomaly_map is not None:
        height, width = image.shape[1:]
        enlarged = Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR)
        values = blend_heat(image, np.asarray(enlarged), limits)
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def blend_heat(image: np.ndarray, anomaly_map: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Blend the image `(3, H, W)` in [0, 1], in grey, with its map `(H, W)` in colour; `(H, W, 3)` in [0, 1].

    The hotter a pixel, the less of the image shows.
    """
    low, high = (float(limit) for limit in limits)  # a NumPy double would widen all arrays of a large photograph
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)
    opacity = (0.15 + 0.75 * heat)[..., None]
    grey = image.mean(0)[..., None]
    colours = HEAT(heat, bytes=True)[..., :3] / np.float32(255)
    return np.clip((1 - opacity) * grey + opacity * colours, 0, 1)


def thumbnail(picture: Image.Image, side: int = THUMBNAIL_SIDE) -> Image.Image:
    """Return the picture with its longer side reduced to `side` pixels; a smaller picture keeps its size."""
    return picture.resize(thumbnail_size(picture.width, picture.height, side), Image.Resampling.LANCZOS)


def thumbnail_size(width: int, height: int, side: int = THUMBNAIL_SIDE) -> tuple[int, int]:
    """Return width and height of the thumbnail of a picture of this size, each at least 1."""
    scale = min(1, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
