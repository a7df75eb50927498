"""How an image gets one score: a number of its own, or of its smoothed map."""

from dataclasses import dataclass

from torch import Tensor

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

    def of_images(self, raw_scores: dict[str, Tensor], maps: dict[str, Tensor]) -> Tensor:
        """Return `(N,)` scores from raw scores `(N,)` or smoothed maps `(N, H, W)` by their names."""
        return raw_scores[self.of] if self.rule == "raw" else self.of_maps(maps[self.of])

    def of_maps(self, maps: Tensor) -> Tensor:
        """Return `(N,)`: the maximum of each map (``map_maximum``), or the mean of its highest share."""
        values = maps.flatten(1)
        if self.rule == "map_maximum":
            return values.amax(1)
        count = max(round(self.top_fraction * values.shape[1]), 1)
        return values.topk(count, dim=1, sorted=False).values.mean(1)
