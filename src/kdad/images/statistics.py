"""Mean and standard deviation of each channel, from batches that need not fit in memory together."""

from typing import Any

import numpy as np

from kdad.images.image_set import ImageSet
from kdad.progress import counted


class ChannelStatistics:
    """Streaming mean and standard deviation of each channel, in float64.

    Batches are combined pairwise, which stays accurate where sums of squares cancel (Chan, Golub & LeVeque 1979,
    "Updating formulae and a pairwise algorithm for computing sample variances", eq. 2.1).
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | None = None
        self._squares: np.ndarray | None = None

    def update(self, array: np.ndarray) -> None:
        """Take in the values of `array` `(B, C, H, W)`; raises `ValueError` when C differs from earlier batches."""
        axes = (0, *range(2, array.ndim))
        count = array.size // array.shape[1]
        if not count:
            return
        mean, squares = array.mean(axis=axes, dtype=np.float64), array.var(axis=axes, dtype=np.float64) * count
        if self._mean is None:
            self.count, self._mean, self._squares = count, mean, squares
            return
        if mean.shape != self._mean.shape:
            raise ValueError(f"{len(mean)} channels cannot be combined with {len(self._mean)}")
        total = self.count + count
        difference = mean - self._mean
        self._mean = self._mean + difference * (count / total)
        self._squares = self._squares + squares + difference**2 * (self.count * count / total)
        self.count = total

    @property
    def mean(self) -> np.ndarray:
        """The mean of each channel `(C,)`; raises `ValueError` before any value was taken in."""
        self._need_values()
        return self._mean

    @property
    def sd(self) -> np.ndarray:
        """The standard deviation of each channel `(C,)`, dividing by the count; raises as `mean` does."""
        self._need_values()
        return np.sqrt(self._squares / self.count)

    def _need_values(self) -> None:
        if not self.count:
            raise ValueError("no values were taken in")


def measure_channels(images: ImageSet, rows: np.ndarray) -> dict[str, Any]:
    """Return ``mean`` and ``sd`` of each channel over these images, and how many they are."""
    statistics = ChannelStatistics()
    for _, image in zip(counted(rows, "Image statistics"), images.images_of(rows), strict=True):
        statistics.update(image[None])
    return {"mean": statistics.mean.tolist(), "sd": statistics.sd.tolist(), "images": len(rows)}
