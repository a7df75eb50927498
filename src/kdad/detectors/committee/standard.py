"""What a member says of held-out normal images, by which all that it says is made comparable with the others."""

import numpy as np
from pydantic import Field

from kdad.images.statistics import ChannelStatistics
from kdad.parameters.strict import StrictModel


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
