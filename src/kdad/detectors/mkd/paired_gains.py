"""Rules compared on the same drawn defects: how good each is, and how surely it is better than the first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000
#: False positive rates at which a map's share of a defect is looked at: the middles of 60 parts of PRO's range.
_RATES = (np.arange(60) + 0.5) / 60 * 0.3


@dataclass(frozen=True)
class DrawnSample:
    """Which plain image (0 to `images` - 1) each defect was drawn on, of which kind it is, and each plain image's half.

    Drawn images are compared with plain ones of their own half alone.
    """

    base: np.ndarray
    kind: np.ndarray
    half: np.ndarray

    @property
    def images(self) -> int:
        """The number of plain images."""
        return len(self.half)

    @property
    def comparable(self) -> np.ndarray:
        """Which defect is compared with which plain image, bool `(defects, images)`."""
        return self.half[self.base][:, None] == self.half


def ranking_wins(drawn: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return `(defects, images)`: 1 where the drawn image scores above the plain one, 0.5 where they tie, else 0."""
    return (drawn[:, None] > plain) + 0.5 * (drawn[:, None] == plain)


def found_shares(maps: np.ndarray, masks: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return for each defect the mean share of it that is found at false positive rates up to 0.3, `(defects,)`.

    `maps` `(defects, H, W)` are of the drawn images with `masks`, `plain` `(images, H, W)` of plain ones; pixels
    outside masks are normal too. The mean over defects is the area under the PRO curve (Bergmann et al. 2020,
    section 4) by the midpoint rule, each mask taken for one region.
    """
    normal = np.concatenate([maps[~masks], plain.ravel()])
    thresholds = np.quantile(normal, 1 - _RATES)[::-1]  # ascending
    shares = [np.searchsorted(thresholds, found[mask], "right").mean() for found, mask in zip(maps, masks, strict=True)]
    return np.array(shares) / len(thresholds)


@dataclass(frozen=True)
class Gain:
    """A rule's figure in [0, 1], by how much it is above the first rule's, and the least that this is."""

    figure: float
    gain: float
    least: float


def paired_gains(
    sample: DrawnSample, values: Sequence[np.ndarray], confidence: float, generator: np.random.Generator
) -> list[Gain]:
    """Return the gain of each rule over the first of them, by `values` of `ranking_wins`, or of `found_shares`.

    The least gain is the lower end of a one-sided interval by the bootstrap, of plain images with all that is drawn on
    them, and of kinds of defects: what is won on one kind alone is not won. `confidence` holds for all rules together
    (Bonferroni).
    """
    kinds = int(sample.kind.max()) + 1
    of_images = generator.multinomial(sample.images, np.full(sample.images, 1 / sample.images), _RESAMPLES)
    of_kinds = generator.multinomial(kinds, np.full(kinds, 1 / kinds), _RESAMPLES)
    of_images, of_kinds = (
        np.vstack([np.ones((1, drawn.shape[1])), drawn]).astype(float) for drawn in (of_images, of_kinds)
    )  # the first row is the sample itself
    drawn = of_images[:, sample.base] * of_kinds[:, sample.kind]
    figures = np.stack([_figures(sample, found, drawn, of_images) for found in values])
    gains = np.round(figures - figures[0], 9)  # rounding errors are no gain
    level = (1 - confidence) / max(len(values) - 1, 1)
    least = np.nanquantile(gains[:, 1:], level, axis=1)
    return [Gain(*map(float, one)) for one in zip(figures[:, 0], gains[:, 0], least, strict=True)]


def _figures(sample: DrawnSample, values: np.ndarray, drawn: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return weighted means `(resamples,)` of values of defects, or of defects and plain images of their half."""
    with np.errstate(invalid="ignore"):  # a resample may hold no pair
        if values.ndim == 1:
            return (drawn @ values) / drawn.sum(axis=1)
        compared = sample.comparable
        return np.einsum("rp,rp->r", drawn @ (values * compared), plain) / np.einsum(
            "rp,rp->r", drawn @ compared.astype(float), plain
        )
