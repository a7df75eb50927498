"""Defects of many kinds, sizes and strengths, drawn on any normal image: what a detector may meet, and not one thing.

What `defects.py` draws is a test set that stays as it is; this is what rules are compared by.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from kdad.images.defect_shapes import blob_distance, nearest_points, soft_step

_TRIED_PLACES = 6
#: Root mean square of the change inside the mask, in grey levels: below it nobody could see the defect.
_VISIBLE = 0.02
#: Extents, and widths of lines, as shares of the image's shorter side.
_EXTENTS, _LENGTHS, _WIDTHS = (0.05, 0.5), (0.15, 1.2), (0.008, 0.035)
_THINNEST = 1.2  # pixels, so that a line is one


@dataclass(frozen=True)
class _Piece:
    """Where a defect lies and what it is painted with: pixels for lengths, `strength` in (0, 1]."""

    image: np.ndarray
    centre: np.ndarray
    extent: float
    distance: np.ndarray
    strength: float
    generator: np.random.Generator


def draw_varied_defect(image: np.ndarray, kind: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one defect of `kind` (`VARIED_KINDS`) on `image` `(3, H, W)` in [0, 1].

    Returns the new image, float32, and the mask, bool `(H, W)`, which holds a pixel at least. Size and strength are
    log-uniform: as many small and faint ones as large and strong ones. It lies rather where the image has structure
    than on a plain ground, where anything would be seen. Everything random comes from `generator`.
    """
    shape, (outline, paint, softness) = image.shape[1:], _KINDS[kind]
    strength = _log_uniform((0.12, 1.0), generator)
    size = _log_uniform(_EXTENTS if outline is _blob else _LENGTHS, generator)
    extent = max(size * min(shape), 2.0)
    most, kept = -1.0, None
    for _ in range(_TRIED_PLACES):
        centre = _structured_place(image, extent, generator)
        distance = outline(shape, centre, extent, generator)
        alpha = soft_step(-distance, max(softness * extent, 1.0))
        changed = alpha * (paint(_Piece(image, centre, extent, distance, strength, generator)) - image)
        mask = distance <= max(0.0, distance.min())
        visible = np.sqrt(np.square(changed[:, mask]).mean())
        if visible > most:
            most, kept = visible, (changed, mask)
        if visible >= _VISIBLE:
            break
    changed, mask = kept
    return (image + changed).clip(0, 1).astype(np.float32), mask


def _scratch(piece: _Piece) -> np.ndarray:
    """Lighten or darken, all colours alike."""
    return piece.image + _side(piece.generator) * 0.6 * piece.strength


def _crack(piece: _Piece) -> np.ndarray:
    """Darken."""
    return piece.image * (1 - 0.9 * piece.strength)


def _stain(piece: _Piece) -> np.ndarray:
    """Multiply by an uneven, tinted factor: the texture stays."""
    cloud = gaussian_filter(piece.generator.standard_normal(piece.image.shape[1:]), max(piece.extent / 5, 1))
    uneven = 1 + 0.3 * cloud / max(cloud.std(), 1e-6)
    return piece.image * (1 + _side(piece.generator) * 0.5 * piece.strength * _tint(piece) * uneven)


def _spot(piece: _Piece) -> np.ndarray:
    """Cover with another colour, more or less; with a grey where the image is grey."""
    colour, grey = piece.generator.random((3, 1, 1)), piece.generator.random()
    vivid = piece.generator.random() * min(4 * _colourfulness(piece.image), 1.0)
    return piece.image + piece.strength * (grey + vivid * (colour - grey) - piece.image)


def _blur(piece: _Piece) -> np.ndarray:
    """Smear, as by wear."""
    return gaussian_filter(piece.image, (0, *[0.6 + 0.03 * min(piece.image.shape[1:]) * piece.strength] * 2))


def _displaced(piece: _Piece) -> np.ndarray:
    """Move the piece, by up to its own extent."""
    angle = piece.generator.uniform(0, 2 * np.pi)
    length = max(piece.strength * piece.extent, 1.5)
    return _moved(piece.image, length * np.array([np.sin(angle), np.cos(angle)]))


def _copied(piece: _Piece) -> np.ndarray:
    """Cover with what is elsewhere in the image."""
    return _moved(piece.image, piece.centre - _structured_place(piece.image, piece.extent, piece.generator))


def _rotated(piece: _Piece) -> np.ndarray:
    """Turn the piece about its centre, by up to a half turn."""
    angle = _side(piece.generator) * np.pi * max(piece.strength, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = piece.centre - turn @ piece.centre
    return np.stack([affine_transform(channel, turn, shift, order=1, mode="reflect") for channel in piece.image])


def _missing(piece: _Piece) -> np.ndarray:
    """Fill with the surroundings, smoothed: what lies outside alone is averaged."""
    outside = (piece.distance > 1).astype(float)
    sigma = max(piece.extent / 3, 1.5)
    share = gaussian_filter(outside, sigma)
    filled = gaussian_filter(piece.image * outside, (0, sigma, sigma)) / np.maximum(share, 1e-6)
    known = soft_step(share, 0.02)  # far inside a large piece there is nothing to average
    return known * filled + (1 - known) * piece.image.mean(axis=(1, 2), keepdims=True)


def _blob(shape: tuple[int, int], centre: np.ndarray, extent: float, generator: np.random.Generator) -> np.ndarray:
    return blob_distance(shape, extent, generator, centre)


def _bent_line(shape: tuple[int, int], centre: np.ndarray, extent: float, generator: np.random.Generator) -> np.ndarray:
    return _line(shape, centre, extent, generator, bend=0.02, jags=0.0)


def _jagged_line(
    shape: tuple[int, int], centre: np.ndarray, extent: float, generator: np.random.Generator
) -> np.ndarray:
    return _line(shape, centre, extent, generator, bend=0.08, jags=0.6)


def _line(
    shape: tuple[int, int],
    centre: np.ndarray,
    extent: float,
    generator: np.random.Generator,
    bend: float,
    jags: float,
) -> np.ndarray:
    """Return each pixel's distance to a line of length `extent` whose heading wanders, thin at its ends.

    `bend` is the heading's standard deviation a step, in radians, of 100 steps; `jags` that of each step's own.
    """
    steps = 100
    wander = np.cumsum(generator.normal(0, bend, steps)) + generator.normal(0, jags, steps)
    heading = generator.uniform(0, 2 * np.pi) + wander
    points = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0) * extent / steps
    points += centre - points[steps // 2]
    width = max(_log_uniform(_WIDTHS, generator) * min(shape), _THINNEST)
    thin = np.sqrt(np.clip(np.sin(np.linspace(0, np.pi, steps)), 0.15, 1))
    distance, nearest = nearest_points(shape, points)
    return distance - 0.5 * np.maximum(width * thin, _THINNEST)[nearest]


def _structured_place(image: np.ndarray, extent: float, generator: np.random.Generator) -> np.ndarray:
    """Draw a pixel (row, column): rather where the image varies than where it is plain, edges no more than textures."""
    grey = image.mean(axis=0, dtype=np.float64)
    sigma = max(extent / 4, 2.0)
    spread = np.sqrt(np.maximum(gaussian_filter(grey**2, sigma) - gaussian_filter(grey, sigma) ** 2, 0))
    likely = (0.02 + spread / (spread + 0.1 * grey.std() + 1e-6)).ravel()
    return np.array(np.unravel_index(generator.choice(likely.size, p=likely / likely.sum()), grey.shape), dtype=float)


def _moved(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return the image moved by whole pixels (rows, columns), mirrored at its borders."""
    rows, columns = (_mirrored(side, round(step)) for side, step in zip(image.shape[1:], by, strict=True))
    return image[:, *np.ix_(rows, columns)]


def _mirrored(side: int, step: int) -> np.ndarray:
    found = (np.arange(side) - step) % (2 * side)
    return np.where(found < side, found, 2 * side - 1 - found)


def _tint(piece: _Piece) -> np.ndarray:
    vivid = min(4 * _colourfulness(piece.image), 1.0)
    return 1 - vivid * piece.generator.uniform(0, 0.5, (3, 1, 1))


def _colourfulness(image: np.ndarray) -> float:
    """Return the mean standard deviation over the three channels, relative to that of all values: 0 for grey images."""
    return float(image.std(axis=0).mean() / max(image.std(), 1e-6))


def _side(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _log_uniform(limits: tuple[float, float], generator: np.random.Generator) -> float:
    return float(np.exp(generator.uniform(*np.log(limits))))


#: Outline, paint, and how much of the extent a soft edge takes.
_KINDS: dict[str, tuple[Callable, Callable[[_Piece], np.ndarray], float]] = {
    "scratch": (_bent_line, _scratch, 0.0),
    "crack": (_jagged_line, _crack, 0.0),
    "stain": (_blob, _stain, 0.35),
    "spot": (_blob, _spot, 0.1),
    "blur": (_blob, _blur, 0.2),
    "displaced": (_blob, _displaced, 0.0),
    "rotated": (_blob, _rotated, 0.0),
    "copied": (_blob, _copied, 0.05),
    "missing": (_blob, _missing, 0.05),
}
VARIED_KINDS = tuple(_KINDS)
