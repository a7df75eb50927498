"""What a detector knows of images that are judged by tiles: a threshold for each way to cut them."""

import numpy as np
from pydantic import Field, PositiveInt

from kdad.images.tiling import Tiling
from kdad.parameters.strict import StrictModel
from kdad.scoring.threshold import Threshold


class TiledThreshold(StrictModel):
    """A threshold of whole images by their tiles: the most of many tiles is larger than that of one."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="height and width of a tile in images' own pixels")
    overlap: int = Field(ge=0, description="pixels that neighbours share at least")
    threshold: Threshold
    validation_scores: list[float] = Field(description="of the normal images that it was set on, ascending")
    colour_limits: tuple[float, float] | None = Field(None, description="values that a heat map's colours run between")
    pixels: tuple[PositiveInt, PositiveInt] = Field(description="of the smallest and the largest of those images")
    calibrated_on: str = Field(description="the folder of those images")

    @property
    def tiling(self) -> Tiling:
        """The tiles that it belongs to."""
        return Tiling(self.size, self.overlap)

    @property
    def scores(self) -> np.ndarray:
        """The normal scores that others are ranked among, ascending."""
        return np.asarray(self.validation_scores)


def find_tiled(known: list[TiledThreshold], tiling: Tiling) -> TiledThreshold | None:
    """Return the threshold for these tiles, None where there is none."""
    return next((found for found in known if found.tiling == tiling), None)


def put_tiled(known: list[TiledThreshold], new: TiledThreshold) -> list[TiledThreshold]:
    """Return thresholds with a new one, in place of one for the same tiles."""
    return [*(found for found in known if found.tiling != new.tiling), new]
