"""Scores and maps made comparable: mean and spread over held-out normal images."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from pydantic import Field

from kdad.images.splits import Split
from kdad.images.statistics import ChannelStatistics
from kdad.parameters.scoring import ScoreRule
from kdad.parameters.strict import StrictModel
from kdad.scoring.map_score import map_scores


class Standard(StrictModel):
    """Mean and standard deviation of held-out values, of scores or of a map's pixels."""

    mean: float = Field(description="of all held-out values")
    sd: float = Field(gt=0, description="dividing by the count; 1 where all are the same")

    @classmethod
    def of(cls, values: ChannelStatistics) -> "Standard":
        """Return that of values taken in as one channel; raises `ValueError` where there was none."""
        return cls(mean=values.mean.item(), sd=values.sd.item() or 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
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
