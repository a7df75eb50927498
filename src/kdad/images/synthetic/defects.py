"""Surface defects drawn on grey textures, each with its mask."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from kdad.images.synthetic.defect_shapes import blob_distance, curve_distance, soft_step
from kdad.parameters.dataset import DefectKind, DefectParameters

_TRIED_PLACES = 5


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
    smooth = gaussian_filter(surface.texture, 2)
    side = 1 if surface.generator.random() < 0.5 else -1
    return smooth + 0.4 * (surface.texture - smooth) + side * (0.08 + 0.25 * surface.strength)


def _paint_stain(surface: _Surface) -> np.ndarray:
    """Multiply by an uneven factor, which keeps the texture: a stain darkens, or bleaches."""
    cloud = gaussian_filter(surface.generator.standard_normal(surface.texture.shape), surface.extent / 5)
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
    return gaussian_filter(surface.texture, 1 + 4 * surface.strength)


_PAINTERS: dict[DefectKind, Callable[[_Surface], np.ndarray]] = {
    "scratch": _paint_scratch,
    "stain": _paint_stain,
    "hole": _paint_hole,
    "paste": _paint_paste,
    "blur": _paint_blur,
}
