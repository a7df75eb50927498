"""The detection score: one number an image."""

from dataclasses import dataclass

import numpy as np

from kdad.parameters.scoring import ScoreRule


@dataclass(frozen=True)
class ImageScore:
    """How an image's score comes about: by `rule` from the raw score or the smoothed map of this name."""

    of: str
    rule: ScoreRule
    top_fraction: float = 0.01

    @property
    def map_name(self) -> str | None:
        """The map that the score is taken of, None for a raw score."""
        return None if self.rule == "raw" else self.of

    def of_images(self, raw_scores: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> np.ndarray:
        """Return `(N,)` scores from raw scores `(N,)` or smoothed maps `(N, H, W)` by their names."""
        if self.rule == "raw":
            return raw_scores[self.of]
        return map_scores(maps[self.of], self.rule, self.top_fraction)


def map_scores(maps: np.ndarray, rule: ScoreRule, top_fraction: float) -> np.ndarray:
    """Return `(N,)`: each map's maximum (``map_maximum``) or the mean of its highest share `top_fraction`."""
    if rule == "map_maximum":
        return np.array([anomaly_map.max() for anomaly_map in maps])
    count = max(round(top_fraction * maps[0].size), 1)
    return np.array([np.partition(anomaly_map, -count, axis=None)[-count:].mean() for anomaly_map in maps])
