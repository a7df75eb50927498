"""Surface defects drawn on grey textures, each with its mask."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are used

from kdad.parameters.dataset import DefectKind, DefectParameters

_HARMONICS = 7
_TRIED_PLACES = 5


def soft_step(depth: np.ndarray, width: float) -> np.ndarray:
    """Return a smooth step of `depth` from 0 to 1 over `width`, one half at depth 0."""
    t = np.clip(depth / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def blob_distance(shape: tuple[int, int], extent: float, generator: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is outside (negative: inside) an irregular blob of about `extent` pixels across."""
    angle = generator.uniform(0, np.pi)
    stretch = generator.uniform(1.0, 1.5)
    radius = max(extent / 2, 1.5)
    y, x = np.indices(shape) - _place(shape, radius * 1.3, generator)[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    along, across = along / np.sqrt(stretch), across * np.sqrt(stretch)
    order = np.arange(2, 2 + _HARMONICS)
    height = generator.normal(0, 0.15, _HARMONICS) / (order - 1)
    phase = generator.uniform(0, 2 * np.pi, _HARMONICS)
    theta = np.arctan2(across, along)[..., None]
    outline = radius * np.clip(1 + (height * np.cos(order * theta + phase)).sum(axis=-1), 0.5, 1.5)
    ragged = scipy.ndimage.gaussian_filter(generator.standard_normal(shape), max(extent / 14, 1))
    return np.hypot(along, across) - outline + ragged * (0.06 * radius / ragged.std())


def curve_distance(shape: tuple[int, int], extent: float, generator: np.random.Generator) -> np.ndarray:
    """Return how far each pixel is outside a gently bent line, two extents long and thinner at its ends."""
    length, width = 2 * extent, max(0.07 * extent, 1.0)
    heading = generator.uniform(0, np.pi) + np.cumsum(generator.normal(0, 0.35, 5))
    knots = np.concatenate([[[0, 0]], np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1), axis=0)]) * length / 5
    centre = _place(shape, length / 2, generator)
    t = np.linspace(0, 1, 256)
    points = scipy.interpolate.CubicSpline(np.linspace(0, 1, 6), knots - knots.mean(axis=0) + centre)(t)
    distance, nearest = nearest_points(shape, points)
    wave = 1 + 0.25 * np.sin(2 * np.pi * (3 * t + generator.random()))
    return distance - (np.sqrt(np.clip(4 * t * (1 - t), 0.1, 1)) * width * wave)[nearest]


def nearest_points(shape: tuple[int, int], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pixel is from the nearest of `points` `(K, 2)` (row, column), and which one that is."""
    return scipy.spatial.cKDTree(points).query(np.moveaxis(np.indices(shape), 0, -1))


def _place(shape: tuple[int, int], margin: float, generator: np.random.Generator) -> np.ndarray:
    """Return a pixel (row, column) at least `margin` from the edges, or the middle where none is."""
    sides = np.asarray(shape)
    margins = np.minimum(margin, (sides - 1) / 2)
    return np.round(generator.uniform(margins, sides - 1 - margins))


def draw_defect(
    texture: np.ndarray,
    other: np.ndarray,
    kind: DefectKind,
    parameters: DefectParameters,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect of `kind` on `texture` `(H, W)` in [0, 1]; `other`, of the same size, is what `paste` pastes.

    Returns the new image and the mask, bool `(H, W)`. A defect covers each pixel by an alpha in [0, 1] that falls from
    1 to 0 over `parameters.softness` pixels; the mask is where alpha exceeds one half, and where alpha is 0 the
    texture is unchanged. Everything random comes from `generator`.
    """
    if texture.shape != other.shape:
        raise ValueError(f"a texture of {texture.shape} and another of {other.shape} do not match")
    extent = parameters.size * min(texture.shape) * generator.uniform(0.75, 1.25)
    measure = curve_distance if kind == "scratch" else blob_distance
    best_change, best = -1.0, None
    # A blurred patch of a plain brick would be a defect that nobody can see: the most visible of some places is kept.
    for _ in range(_TRIED_PLACES):
        distance = measure(texture.shape, extent, generator)
        alpha = soft_step(-distance, parameters.softness)
        surface = _Surface(texture, other, distance, extent, parameters.strength, generator)
        change = alpha * (_PAINTERS[kind](surface) - texture)
        if np.abs(change).sum() > best_change:
            best_change, best = np.abs(change).sum(), (change, alpha)
    change, alpha = best
    return (texture + change).clip(0, 1).astype(np.float32), alpha > 0.5


@dataclass(frozen=True)
class _Surface:
    """What a defect is painted with: distances outside its outline, and its extent, in pixels."""

    texture: np.ndarray
    other: np.ndarray
    distance: np.ndarray
    extent: float
    strength: float
    generator: np.random.Generator


def _paint_scratch(surface: _Surface) -> np.ndarray:
    """Smooth a groove and lighten or darken it, with some grain of the surface left in it."""
    smooth = scipy.ndimage.gaussian_filter(surface.texture, 2)
    side = 1 if surface.generator.random() < 0.5 else -1
    return smooth + 0.4 * (surface.texture - smooth) + side * (0.08 + 0.25 * surface.strength)


def _paint_stain(surface: _Surface) -> np.ndarray:
    """Multiply by an uneven factor, which keeps the texture: a stain darkens, or bleaches."""
    cloud = scipy.ndimage.gaussian_filter(surface.generator.standard_normal(surface.texture.shape), surface.extent / 5)
    side = 1 if surface.generator.random() < 0.4 else -1
    return surface.texture * (1 + 0.55 * surface.strength * side + 0.1 * cloud / cloud.std())


def _paint_hole(surface: _Surface) -> np.ndarray:
    """Darken inwards from a chipped, lighter rim."""
    rim = max(1.5, 0.08 * surface.extent)
    inside = soft_step(-surface.distance - rim, rim)
    dark = 0.02 + 0.6 * (1 - surface.strength) * surface.texture
    light = surface.texture + 0.25 * surface.strength * (1 - surface.texture)
    return light + inside * (dark - light)


def _paint_paste(surface: _Surface) -> np.ndarray:
    """Blend in another texture that has the mean and contrast of the pixels that it covers."""
    covered = surface.distance < 0
    old, new = surface.texture[covered], surface.other[covered]
    matched = old.mean() + (surface.other - new.mean()) * (old.std() / max(new.std(), 1e-6))
    return surface.texture + (0.4 + 0.6 * surface.strength) * (matched - surface.texture)


def _paint_blur(surface: _Surface) -> np.ndarray:
    """Smear the texture, as by wear or a lens out of focus."""
    return scipy.ndimage.gaussian_filter(surface.texture, 1 + 4 * surface.strength)


_PAINTERS: dict[DefectKind, Callable[[_Surface], np.ndarray]] = {
    "scratch": _paint_scratch,
    "stain": _paint_stain,
    "hole": _paint_hole,
    "paste": _paint_paste,
    "blur": _paint_blur,
}
