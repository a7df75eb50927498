"""What ``--params`` says: ``name=value`` separated by commas, where a value is whatever YAML can say in one line."""

import json
import re
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdad.parameters.strict import flatten
from kdad.project.command_line import CommandLineError, ExitCode

_NAME = re.compile(r"\s*([A-Za-z_][\w-]*(?:\.[\w-]+)*)\s*=")
#: Digits that are no number as people write them: a name, like the category ``01``.
_LEADING_ZERO = re.compile(r"-?0\d+")
_BRACKETS = ("[", "{")


def parse_parameters(text: str) -> dict[str, Any]:
    """Return nested parameters of ``a.b=1,c=[2,3],d='x, y',e=f g``.

    Lists and mappings stand in brackets, text with ``, name=`` in it or that looks like something else in quotes; any
    other text is taken as it is, commas, equals signs, spaces and colons among it. Raises `CommandLineError` for what
    has no name, no end, or two meanings.
    """
    found: dict[str, Any] = {}
    position = 0
    while position < len(text) and text[position:].strip(" ,"):
        match = _NAME.match(text, position)
        if match is None:
            raise _wrong(f"'{text[position:].strip()}' has no name; write name=value, separated by commas")
        end = _end_of_value(text, match.end())
        _put(found, match[1], _value(text[match.end() : end].strip(), match[1]))
        position = end + 1
    return found


def say_parameters(values: dict[str, Any]) -> str:
    """Return the text that `parse_parameters` reads as `values`."""
    return ",".join(f"{name}={_say(value)}" for name, value in flatten(values).items())


def _say(value: Any) -> str:
    if isinstance(value, str) and _means(value):
        return value
    return json.dumps(value, ensure_ascii=False)  # which is YAML as well


def _means(text: str) -> bool:
    """Tell whether text may stand as it is, with another parameter after it."""
    try:
        return parse_parameters(f"value={text},next=1") == {"value": text, "next": 1}
    except CommandLineError:
        return False


def _end_of_value(text: str, start: int) -> int:
    """Return where a value ends: before a comma that a name follows; in brackets or quotes, where they are closed."""
    commas = (comma.start() for comma in re.compile(",").finditer(text, start))
    ends = [comma for comma in commas if _NAME.match(text, comma + 1) or not text[comma + 1 :].strip()] + [len(text)]
    if text[start:].lstrip()[:1] in (*_BRACKETS, "'", '"'):
        return next((end for end in ends if _is_yaml(text[start:end])), ends[0])
    return ends[0]


def _is_yaml(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return True


def _value(text: str, name: str) -> Any:
    """Return what YAML says of a value; plain text stays as it is, though YAML would cut it at `` #``."""
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
        value = values["value"]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        if text[:1] in _BRACKETS:
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise _wrong(f"{name}: '{text}' is not YAML: {problem}") from None
        return text
    if _LEADING_ZERO.fullmatch(text):
        return text
    quoted = text[:1] in ("'", '"')
    return value if quoted or text[:1] in _BRACKETS or isinstance(value, int | float | None) else text


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    *blocks, last = name.split(".")
    for block in blocks:
        found = found.setdefault(block, {})
        if not isinstance(found, dict):
            raise _wrong(f"'{name}' is given below '{block}', which is given a value of its own; give one of them")
    if isinstance(value, dict) and isinstance(found.get(last), dict):
        for inner, one in value.items():
            _put(found[last], str(inner), one)
    else:
        found[last] = value


def _wrong(message: str) -> CommandLineError:
    return CommandLineError(f"--params: {message}", ExitCode.WRONG_COMMAND)
