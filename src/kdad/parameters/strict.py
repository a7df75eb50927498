"""The base of all parameter blocks: an unknown key is an error that names the nearest known one."""

import difflib
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from kdad.errors import InputError, first_of

#: Critical points by name, or ``all``, or ``first N`` / ``last N`` in the network's order.
PointChoice = str | list[str]
_LISTED = 40
Model = TypeVar("Model", bound=BaseModel)


def nearest_name(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of `known`, or 40 of them at most when none is close."""
    if not known:
        return "; there is none"
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {first_of(sorted(known), _LISTED)}"


def split_list(text: str) -> list[str]:
    """Return the items of a list in words: separated by spaces or commas."""
    return text.replace(",", " ").split()


def as_list(value: Any, annotation: Any) -> Any:
    """Return a list for text or one number, where `annotation` takes a list and neither of them; else `value`."""
    kinds = set(_kinds(annotation))
    if list not in kinds or type(value) in kinds:
        return value
    if isinstance(value, str):
        return split_list(value)
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _kinds(annotation: Any) -> list[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _kinds(each)]
    return [origin or annotation]


def _takes_numbers(annotation: Any) -> bool:
    """Tell whether numbers fit an annotation, also chosen ones, and true and false do not."""
    options = {type(option) for option in get_args(annotation)} if get_origin(annotation) is Literal else set()
    kinds = options | set(_kinds(annotation))
    return bool not in kinds and bool({int, float} & kinds)


def _worded(value: Any, annotation: Any) -> Any:
    """Return true and false as words where numbers are wanted, which pydantic would take them for."""
    return str(value).lower() if isinstance(value, bool) and _takes_numbers(annotation) else value


class StrictModel(BaseModel):
    """A frozen parameter block that rejects unknown keys, NaN and infinity; lists may be ``"0 1 2"``, or one number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _offer_nearest_name(cls, values: Any) -> Any:
        if isinstance(values, dict):
            known = list(cls.model_fields)
            unknown = [str(key) for key in values if key not in cls.model_fields]
            if unknown:
                raise ValueError(" ".join(f"unknown parameter '{key}'{nearest_name(key, known)}" for key in unknown))
            given = [(name, value, cls.model_fields[name].annotation) for name, value in values.items()]
            return {name: as_list(_worded(value, annotation), annotation) for name, value, annotation in given}
        return values


def bind(model: type[Model], values: Any, block: str) -> Model:
    """Bind values to their model; raises `InputError` that names each field of `block` that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(["parameters cannot be used:", *every_message(error, block)])) from None


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay nested dictionaries over each other; lists and values are replaced."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def first_message(error: ValidationError) -> str:
    """Return the first thing that is wrong, after the field's name."""
    problem = error.errors()[0]
    field = "".join(f".{part}" for part in problem["loc"])
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"


def every_message(error: ValidationError, block: str) -> list[str]:
    """Return a line for each field of `block` that is unknown, missing or out of range, with what was given."""
    lines = []
    for problem in error.errors():
        field = ".".join(map(str, (block, *problem["loc"])))
        given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
        lines.append(f"  {field}: {problem['msg'].removeprefix('Value error, ')}{given}")
    return lines
