"""Maps made comparable: one mean and spread over the training images."""

from pydantic import Field
from torch import Tensor

from kdad.images.statistics import ChannelStatistics
from kdad.parameters.strict import StrictModel


class ZScore(StrictModel):
    """Mean and standard deviation of a map's values."""

    mean: float = Field(description="of all values")
    sd: float = Field(gt=0, description="dividing by the count; 1 where all are the same")

    @classmethod
    def of(cls, values: ChannelStatistics) -> "ZScore":
        """Return that of values taken in as one channel; raises `ValueError` where there was none."""
        # Unchecked: of values that are not finite it is not either, and whoever maps images names the one.
        return cls.model_construct(mean=values.mean.item(), sd=values.sd.item() or 1.0)

    def normalise(self, values: Tensor) -> Tensor:
        """Return (x - mean) / sd."""
        return (values - self.mean) / self.sd
