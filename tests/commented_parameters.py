"""The YAML of `conf/base` with the default and the description of each field from its model, where they stand once.

``python tests/commented_parameters.py`` writes them into the files; a test tells what differs.
"""

import json
import re
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from kdad.parameters.strict import as_list
from kdad.project.configuration import block_model
from parameter_blocks import BASE_FILES, inner_model

_LINE = re.compile(r"( *)(\w+):( .*?)??(  # .*)?")
#: What the run's own images are, which no model has a default of.
_CHOSEN = ("dataset.category",)


def commented(text: str) -> str:
    """Return a file of parameters with the value and the comment of every field as its model says them."""
    place: list[str] = []
    lines = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            indent, name, value, comment = match.groups(default="")
            place = [*place[: len(indent) // 2], name]
            field, default = _field(place)
            if value and default is not PydanticUndefined and ".".join(place) not in _CHOSEN:
                wanted, given = to_jsonable_python(default), yaml.safe_load(value)
                if wanted not in (given, as_list(given, field and field.annotation)):
                    value = f" {json.dumps(wanted)}"
            line = f"{indent}{name}:{value}{comment if field is None else _comment(field)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _field(place: list[str]) -> tuple[FieldInfo | None, Any]:
    """Return the field of a dotted name, None in a mapping of names, and the default that its block has there."""
    model, field, default = block_model(place[0]), None, PydanticUndefined
    for name in place[1:]:
        field = getattr(model, "model_fields", {}).get(name)
        if field is None:
            default = default.get(name, PydanticUndefined) if isinstance(default, dict) else PydanticUndefined
        elif isinstance(default, BaseModel):
            default = getattr(default, name)
        else:
            default = field.get_default(call_default_factory=True)
        model = inner_model(field.annotation) if field is not None else type(default)
    return field, default


def _comment(field: FieldInfo) -> str:
    """Return the description, after the options that it does not name."""
    options = [option for option in get_args(field.annotation) if isinstance(option, str)]
    named = all(re.search(rf"\b{option}\b", field.description or "") for option in options)
    return f"  # {'' if named else ' | '.join(options) + ': '}{field.description}"


if __name__ == "__main__":
    for path in BASE_FILES:
        path.write_text(commented(path.read_text()))
