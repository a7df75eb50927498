"""The body of a request to ``/invocations``, in the forms that MLflow defines, as images in order."""

import json
from dataclasses import dataclass
from typing import Any

from kdad.errors import InputError
from kdad.serving.table import COLUMN, check_columns

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_SAID = ", ".join(f"'{form}'" for form in _FORMS)


@dataclass(frozen=True)
class Invocation:
    """What is to be judged: base64 texts or nested lists, and whether maps are wanted."""

    values: list[Any]
    with_map: bool


def parse_invocation(body: bytes) -> Invocation:
    """Read a JSON body; raises `InputError` for one that is cut short, of no form of MLflow's, or without a row."""
    try:
        content = json.loads(body)
    except UnicodeDecodeError as error:
        raise InputError("the body is no UTF-8 text; give JSON, and images in base64") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON ({error}); it may have been cut short") from error
    if not isinstance(content, dict):
        raise InputError(f"the body is no JSON object; give one with {_SAID}")
    unknown = sorted(content.keys() - {*_FORMS, "params"})
    if unknown:
        raise InputError(f"the body has an unknown field '{unknown[0]}'; known: {_SAID}, 'params'")
    given = [form for form in _FORMS if form in content]
    if len(given) != 1:
        raise InputError(f"the body has {len(given)} of {_SAID}; give one of them")
    values = _READERS[given[0]](content[given[0]])
    if not values:
        raise InputError("the table is empty; give at least one row")
    return Invocation(values, _with_map(content.get("params")))


def _with_map(params: Any) -> bool:
    if params is None:
        return False
    if not isinstance(params, dict) or not params.keys() <= {"map"} or not isinstance(params.get("map", False), bool):
        raise InputError('\'params\' takes one name, {"map": true} or {"map": false}')
    return params.get("map", False)


def _split(content: Any) -> list[Any]:
    if not isinstance(content, dict) or not {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}:
        raise InputError("'dataframe_split' takes 'columns' and 'data', and perhaps 'index'")
    columns, rows = content["columns"], content["data"]
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise InputError("'columns' and 'data' of 'dataframe_split' are lists")
    check_columns([str(name) for name in columns])
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 1:
            raise InputError(f"row {number}: it is no list of one value; 'data' is [[image], [image], ...]")
    return [row[0] for row in rows]


def _records(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise InputError("'dataframe_records' is a list of rows, each {\"image\": ...}")
    return [_of_record(number, row) for number, row in enumerate(content)]


def _of_record(number: int, row: Any) -> Any:
    if not isinstance(row, dict):
        raise InputError(f'row {number}: it is no object; give {{"{COLUMN}": ...}}')
    try:
        check_columns([str(name) for name in row])
    except InputError as error:
        raise InputError(f"row {number}: {error}") from error
    return row[COLUMN]


def _instances(content: Any) -> list[Any]:
    """Return rows, named or not: ``[{"image": ...}, ...]``, base64 texts, or arrays."""
    if not isinstance(content, list):
        raise InputError("'instances' is a list of images")
    return [_of_record(number, row) if isinstance(row, dict) else row for number, row in enumerate(content)]


def _inputs(content: Any) -> list[Any]:
    """Return the column ``{"image": [...]}``, or rows as of ``instances``."""
    if isinstance(content, dict):
        check_columns([str(name) for name in content])
        content = content[COLUMN]
        if not isinstance(content, list):
            raise InputError(f"'{COLUMN}' of 'inputs' is a list of images")
        return content
    if not isinstance(content, list):
        raise InputError(f"'inputs' is {{\"{COLUMN}\": [...]}} or a list of images")
    return _instances(content)


_READERS = {"dataframe_split": _split, "dataframe_records": _records, "instances": _instances, "inputs": _inputs}
