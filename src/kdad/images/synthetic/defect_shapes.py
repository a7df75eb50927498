"""The shapes of drawn defects, as each pixel's distance to their outline."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

_HARMONICS = 7


def soft_step(depth: np.ndarray, width: float) -> np.ndarray:
    """Return a smooth step of `depth` from 0 to 1 over `width`, one half at depth 0."""
    t = np.clip(depth / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def blob_distance(
    shape: tuple[int, int], extent: float, generator: np.random.Generator, centre: np.ndarray | None = None
) -> np.ndarray:
    """Return how far each pixel is outside (negative: inside) an irregular blob of about `extent` pixels across.

    Its `centre` (row, column) is drawn where none is given.
    """
    angle = generator.uniform(0, np.pi)
    stretch = generator.uniform(1.0, 1.5)
    radius = max(extent / 2, 1.5)
    y, x = _offsets(shape, _place(shape, radius * 1.3, generator) if centre is None else centre)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    along, across = along / np.sqrt(stretch), across * np.sqrt(stretch)
    order = np.arange(2, 2 + _HARMONICS)
    height = generator.normal(0, 0.15, _HARMONICS) / (order - 1)
    phase = generator.uniform(0, 2 * np.pi, _HARMONICS)
    theta = np.arctan2(across, along)[..., None]
    outline = radius * np.clip(1 + (height * np.cos(order * theta + phase)).sum(axis=-1), 0.5, 1.5)
    ragged = gaussian_filter(generator.standard_normal(shape), max(extent / 14, 1))
    return np.hypot(along, across) - outline + ragged * (0.06 * radius / ragged.std())


def curve_distance(shape: tuple[int, int], extent: float, generator: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is outside a gently bent line, two extents long and thinner at its ends."""
    length, width = 2 * extent, max(0.07 * extent, 1.0)
    heading = generator.uniform(0, np.pi) + np.cumsum(generator.normal(0, 0.35, 5))
    knots = np.concatenate([[[0, 0]], np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)]) * length / 5
    centre = _place(shape, length / 2, generator)
    t = np.linspace(0, 1, 256)
    points = CubicSpline(np.linspace(0, 1, 6), knots - knots.mean(axis=0) + centre)(t)
    distance, nearest = nearest_points(shape, points)
    taper = (
        np.sqrt(np.clip(4 * t * (1 - t), 0.1, 1))
        * width
        * (1 + 0.25 * np.sin(2 * np.pi * (3 * t + generator.random())))
    )
    return distance - taper[nearest]


def nearest_points(shape: tuple[int, int], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pixel is from the nearest of `points` `(K, 2)` (row, column), and which one that is."""
    rows, columns = np.indices(shape)
    return cKDTree(points).query(np.stack([rows, columns], axis=-1))


def _place(shape: tuple[int, int], margin: float, generator: np.random.Generator) -> np.ndarray:
    """Return a pixel (row, column) at least `margin` from the edges, or the middle where none is."""
    sides = np.asarray(shape)
    margins = np.minimum(margin, (sides - 1) / 2)
    return np.round(generator.uniform(margins, sides - 1 - margins))


def _offsets(shape: tuple[int, int], centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices(shape)
    return rows - centre[0], columns - centre[1]
