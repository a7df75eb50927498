"""The base of a system's settings: its parameter blocks, and what it says of itself before any network is loaded."""

from typing import Any, ClassVar

from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import StrictModel


class SystemSettings(StrictModel):
    """Everything that makes a system's detector: a field for each of its parameter blocks."""

    #: Whether the system stands in the table of the baselines beside them.
    stands_among_baselines: ClassVar[bool] = False

    @classmethod
    def choose(cls, blocks: dict[str, Any], variant: str, where: str) -> dict[str, Any] | None:
        """Return the parameter blocks of the variant of this name: of a system that is one method of many, its own.

        None when it is left out; raises `InputError`, naming `where`, when there is none.
        """
        return blocks

    def applies(self, dataset: DatasetParameters) -> bool:
        """Tell whether the system can see such images at all."""
        return True
