"""What `conf` says of each field as its model says it: defaults and comments in the YAML, and schemas for editors.

``python tests/commented_parameters.py`` writes them into the files; a test tells what differs.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from kdad.experiments.parameters import AblationParameters
from kdad.experiments.plan import SUFFIX
from kdad.parameters.strict import as_list
from kdad.project.configuration import block_model, known_blocks
from kdad.tracking.parameters import MlflowSettings
from parameter_blocks import BASE_FILES, inner_model
from projects import PROJECT

SCHEMAS = PROJECT / "conf/schema"
#: The files of `conf` that have a schema.
DESCRIBED_FILES = sorted(
    (*BASE_FILES, *(PROJECT / "conf").glob("*/parameters.yml"), *(PROJECT / "conf").glob("*/mlflow.yml"))
)

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


_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ABLATION = {SUFFIX: AblationParameters}
#: A value of OmegaConf's, such as ``${globals:seed}``, which editors cannot follow.
_ELSEWHERE = {"type": "string", "pattern": r"^\$\{"}


def schemas() -> dict[Path, str]:
    """Return the text of each schema in `conf/schema` by its path, for editors that complete and check YAML."""
    blocks = {name: model for name, model in known_blocks().items() if not name.endswith(SUFFIX)}
    models = [(name, "validation", TypeAdapter(model)) for name, model in (blocks | _ABLATION).items()]
    found, shared = TypeAdapter.json_schemas(models, ref_template="#/$defs/{model}")
    properties = {name: found[name, "validation"] for name in blocks}
    properties["seed"] = {"anyOf": [properties["seed"], _ELSEWHERE]}
    of_names = {f"^.+{SUFFIX}$": found[SUFFIX, "validation"]}
    parameters = {"properties": properties, "patternProperties": of_names, "additionalProperties": False} | shared
    written = {"parameters": parameters, "mlflow": MlflowSettings.model_json_schema()}
    return {
        SCHEMAS / f"{name}.json": f"{json.dumps({'$schema': _DRAFT} | _loosened(schema), indent=1)}\n"
        for name, schema in written.items()
    }


def _loosened(schema: Any) -> Any:
    """Return a schema that takes what differs alone, and lists in words, as `StrictModel` does; without titles."""
    if isinstance(schema, list):
        return [_loosened(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    loose = {name: _loosened(inner) for name, inner in schema.items() if not _is_left_out(name, inner)}
    return {"anyOf": [loose, {"type": ["string", "number"]}]} if schema.get("type") == "array" else loose


def _is_left_out(name: str, value: Any) -> bool:
    return (name == "required" and isinstance(value, list)) or (name == "title" and isinstance(value, str))


def first_line(path: Path) -> str:
    """Return the comment by which editors find the schema of a file of `conf`."""
    schema = SCHEMAS / ("mlflow.json" if path.name == "mlflow.yml" else "parameters.json")
    return f"# yaml-language-server: $schema={os.path.relpath(schema, path.parent)}\n"


if __name__ == "__main__":
    for path in BASE_FILES:
        path.write_text(commented(path.read_text()))
    for path in DESCRIBED_FILES:
        text, line = path.read_text(), first_line(path)
        path.write_text(text if text.startswith(line) else line + text)
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in schemas().items():
        path.write_text(text)
