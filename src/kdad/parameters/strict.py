"""The base of all parameter blocks: an unknown key is an error that names the nearest known one."""

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

#: Critical points by name, or ``all``, or ``first N`` / ``last N`` in the network's order.
PointChoice = str | list[str]


def _split_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.split()
    return [value] if isinstance(value, int) else value


#: In an annotation: a list may also be given as ``"0 1 2"`` or as one number, since the command line has no lists.
SpacedList = BeforeValidator(_split_text)
#: Seeds of the same work, each once.
Seeds = Annotated[list[int], SpacedList]


def nearest_name(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of `known`, or the list of all when none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(known))}"


class StrictModel(BaseModel):
    """A frozen parameter block that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _offer_nearest_name(cls, values: Any) -> Any:
        if isinstance(values, dict):
            known = list(cls.model_fields)
            unknown = [str(key) for key in values if key not in cls.model_fields]
            if unknown:
                raise ValueError(" ".join(f"unknown parameter '{key}'{nearest_name(key, known)}" for key in unknown))
        return values
