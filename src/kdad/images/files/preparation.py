"""How files become images that a model takes: which values are 0 and 1, and how they come to one size."""

from dataclasses import dataclass

from kdad.images.files.fitting import Fit
from kdad.images.files.value_range import EIGHT_BITS, ValueRange


@dataclass(frozen=True)
class Preparation:
    """It belongs to a set of images, and to each detector that was made of them.

    `values` None scales files of each kind by their type's limits.
    """

    fit: Fit = "resize"
    values: ValueRange | None = EIGHT_BITS

    @property
    def is_usual(self) -> bool:
        """Whether it is what photographs go through where nothing else is asked for."""
        return self == Preparation()
