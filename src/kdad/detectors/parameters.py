"""The base of a system's settings: its parameter blocks, and what it says of itself before any network is loaded."""

from typing import Any, ClassVar, Self

from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import StrictModel

#: Of a removed parameter: whatever it was set to, nothing depends on it.
ANY = object()


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

        Raises `InputError` where that version judged by what this one has not.
        """
        return cls.model_validate(values)

    def supports(self, dataset: DatasetParameters) -> bool:
        """Tell whether the system can see such images at all."""
        return True


def with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return a kept detector's nested blocks, with values that were renamed since by today's names."""
    return {
        name: with_new_names(value)
        if isinstance(value, dict)
        else ("per_pixel" if (name, value) == ("normalisation", "position") else value)
        for name, value in values.items()
    }


def without_removed(values: dict[str, Any], removed: dict[str, Any]) -> dict[str, Any]:
    """Return nested blocks without the parameters that were removed, by dotted name and the value that changes nothing.

    Raises `InputError` that names a parameter of another value.
    """
    kept = {}
    for name, value in values.items():
        below = {path.partition(".")[2]: unset for path, unset in removed.items() if path.partition(".")[0] == name}
        if "" in below:
            if below[""] is not ANY and value != below[""]:
                raise InputError(
                    f"it judges by {name}={value}, which this version has not, since validation images shaped "
                    "scores by it and then set the threshold; train the detector again"
                )
            continue
        kept[name] = without_removed(value, below) if below and isinstance(value, dict) else value
    return kept
