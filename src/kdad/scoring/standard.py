"""Scores and maps made comparable: mean and spread over held-out normal images."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from pydantic import Field
from torch import Tensor

from kdad.images.splits import Split
from kdad.images.statistics import ChannelStatistics
from kdad.parameters.scoring import ScoreRule
from kdad.parameters.strict import StrictModel
from kdad.scoring.map_score import map_scores


class Standard(StrictModel):
    """Mean and standard deviation of held-out values: of scores, of a map's pixels, of e or v."""

    mean: float = Field(description="of all held-out values")
    sd: float = Field(gt=0, description="dividing by the count; 1 where all are the same")

    @classmethod
    def of(cls, values: ChannelStatistics) -> "Standard":
        """Return that of values taken in as one channel; raises `ValueError` where there was none."""
        return cls._made(values.mean.item(), values.sd.item())

    @classmethod
    def measure(cls, values: np.ndarray) -> "Standard":
        """Return that of values of any shape, in float64."""
        found = np.asarray(values, dtype=np.float64)
        return cls._made(float(found.mean()), float(found.std()))

    @classmethod
    def _made(cls, mean: float, sd: float) -> "Standard":
        # Unchecked: of values that are not finite it is not either, and whoever maps images names the one.
        return cls.model_construct(mean=mean, sd=sd or 1.0)

    def normalise(self, values: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Return (x - mean) / sd."""
        return (values - self.mean) / self.sd


def standardise_scores(
    split: Split,
    maps_of: Callable[[np.ndarray], dict[str, np.ndarray]],
    rule: ScoreRule,
    top_fraction: float,
    batch_size: int,
) -> dict[str, Standard]:
    """Return what the scores of maps by `rule` are standardised by, by the maps' names.

    `maps_of` gives the smoothed maps `(B, H, W)` of the images at some rows of the split.
    """
    rows = split.rows("validation")
    found: dict[str, ChannelStatistics] = defaultdict(ChannelStatistics)
    for start in range(0, len(rows), batch_size):
        for name, maps in maps_of(rows[start : start + batch_size]).items():
            found[name].update(map_scores(maps, rule, top_fraction).reshape(-1, 1))
    return {name: Standard.of(statistics) for name, statistics in found.items()}
