"""A threshold on anomaly maps: which regions of an image exceed it, and how often a normal image has one.

SciPy is imported by what needs it, since a detector that predicts goes without.
"""

import math
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from kdad.scoring.threshold import Calibration


class PixelThreshold(Calibration):
    """A threshold on maps, set on the levels (`level_of`) of normal images: it promises how many have any region."""

    min_area: int = Field(1, ge=1, description="pixels of the image's file that a region has at least")

    def statement(self) -> str:
        """Say what it marks, and what it promises."""
        marked = f"{self.threshold.value:.6g}; an image is above it where a region of {self.min_area} pixels or more is"
        return f"{marked}: {self.threshold.statement()}"


@dataclass(frozen=True)
class MarkedRegion:
    """8-connected pixels of a map above the threshold, in pixels of the image: the `box` ends before x1 and y1."""

    box: tuple[int, int, int, int]
    area: int


def least_pixels(min_area: int, own: tuple[int, int], size: tuple[int, int]) -> int:
    """Return how many pixels of a map of `size` are `min_area` pixels of an image of its `own` size, one at least."""
    return max(math.ceil(min_area * size[0] * size[1] / (own[0] * own[1])), 1)


def level_of(anomaly_map: np.ndarray, least: int) -> float:
    """Return below which threshold a map `(H, W)` has a region of `least` pixels or more; at most that of all pixels.

    It is the highest value of the map's area opening (Vincent 1993), found by halving.
    """
    values = np.unique(anomaly_map)
    # The region has as many pixels that are at least as high.
    high = int(np.searchsorted(values, np.sort(anomaly_map, axis=None)[-min(least, anomaly_map.size)]))
    low = 0 if least > 1 else high
    while low < high:
        middle = (low + high + 1) // 2
        labels = _label(anomaly_map >= values[middle])
        if np.bincount(labels.ravel())[1:].max() >= least:
            low = middle
        else:
            high = middle - 1
    return float(values[low])


def find_regions(anomaly_map: np.ndarray, threshold: float, least: int) -> list[tuple[tuple[slice, slice], int]]:
    """Return rows, columns and pixels of each region of a map `(H, W)` above `threshold`, the largest first."""
    from scipy.ndimage import find_objects

    labels = _label(anomaly_map > threshold)
    areas = np.bincount(labels.ravel())[1:]
    found = zip(find_objects(labels), areas.tolist(), strict=True)
    return sorted((one for one in found if one[1] >= least), key=lambda one: -one[1])


def _label(marked: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    return label(marked, np.ones((3, 3), dtype=bool))[0]
