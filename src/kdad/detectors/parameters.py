"""The base of a system's settings: its parameter blocks, and what it says of itself before any network is loaded."""

from typing import Any, ClassVar, Self

from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.former import without_former
from kdad.parameters.strict import StrictModel


class SystemSettings(StrictModel):
    """Everything that makes a system's detector: a field for each of its parameter blocks."""

    #: Whether the system stands in the table of the baselines beside them.
    stands_among_baselines: ClassVar[bool] = False

    @classmethod
    def select_variant(cls, blocks: dict[str, Any], variant: str, where: str) -> dict[str, Any] | None:
        """Return the parameter blocks of the variant of this name: of a system that is one method of many, its own.

        None when it is left out; raises `InputError`, naming `where`, when there is none.
        """
        return blocks

    @classmethod
    def of_kept(cls, values: dict[str, Any]) -> Self:
        """Return the settings of a detector that was kept, maybe by an earlier version.

        Raises `InputError` where that version predicted by what this one has not.
        """
        return cls.model_validate(without_former(values))

    def supports(self, dataset: DatasetParameters) -> bool:
        """Tell whether the system can see such images at all."""
        return True
