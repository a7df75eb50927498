"""The detection score: one number an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kdad.parameters.scoring import ScoreRule
from kdad.scoring.map_score import map_scores
from kdad.scoring.standard import Standard


@dataclass(frozen=True)
class ImageScore:
    """How an image's score comes about: by `rule` from the raw score or the smoothed map of this name.

    With `summed`, it is the sum of the rule's numbers of these maps, each standardised by held-out normal images.
    """

    of: str
    rule: ScoreRule
    top_fraction: float = 0.01
    summed: Mapping[str, Standard] = field(default_factory=dict)

    @property
    def map_names(self) -> tuple[str, ...]:
        """The maps that the score is taken of; none for a raw score."""
        if self.rule == "raw":
            return ()
        return tuple(self.summed) or (self.of,)

    def of_images(self, raw_scores: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> np.ndarray:
        """Return `(N,)` scores from raw scores `(N,)` or smoothed maps `(N, H, W)` by their names."""
        if self.rule == "raw":
            return raw_scores[self.of]
        found = {name: map_scores(maps[name], self.rule, self.top_fraction) for name in self.map_names}
        return sum(self.summed[name].normalise(scores) if self.summed else scores for name, scores in found.items())
