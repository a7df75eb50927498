"""The detection score: one number an image."""

from dataclasses import dataclass

import numpy as np

from kdad.scoring.map_score import map_scores
from kdad.scoring.parameters import ScoreRule


@dataclass(frozen=True)
class ImageScore:
    """How an image's score comes about: by `rule` from the raw score or the smoothed map of the name `of`."""

    of: str
    rule: ScoreRule
    top_fraction: float = 0.01

    @property
    def map_names(self) -> tuple[str, ...]:
        """The map that the score is taken of; none for a raw score."""
        return () if self.rule == "raw" else (self.of,)

    def of_images(self, raw_scores: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> np.ndarray:
        """Return `(N,)` scores from raw scores `(N,)` or smoothed maps `(N, H, W)` by their names."""
        return raw_scores[self.of] if self.rule == "raw" else map_scores(maps[self.of], self.rule, self.top_fraction)
