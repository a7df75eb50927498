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
_CLOSING = {"[": "]", "{": "}"}


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
        end = _end_of_value(text, match.end(), match[1])
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


def _end_of_value(text: str, start: int, name: str) -> int:
    """Return where a value ends: after its closing bracket or quote, or before the comma that a name follows."""
    value = text[start:].lstrip()
    first = start + len(text[start:]) - len(value)
    if value[:1] in ("[", "{", "'", '"'):
        end = _closing(text, first)
        if end is None and value[0] in _CLOSING:
            raise _wrong(f"{name}: {value} has no closing '{_CLOSING[value[0]]}'")
        rest = "" if end is None else text[end + 1 :].lstrip()
        if end is not None and rest[:1] in ("", ","):
            return len(text) - len(rest)
    for comma in re.finditer(",", text[start:]):
        after = start + comma.end()
        if _NAME.match(text, after) or not text[after:].strip():
            return after - 1
    return len(text)


def _closing(text: str, first: int) -> int | None:
    """Return the place of the bracket or quote that closes the one at `first`; brackets in quotes close nothing."""
    open_brackets: list[str] = []
    quote = ""
    for place in range(first, len(text)):
        character = text[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            open_brackets.append(_CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        if not quote and not open_brackets:
            return place
    return None


def _value(text: str, name: str) -> Any:
    """Return what YAML says of a value; plain text stays as it is, though YAML would cut it at `` #``."""
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        if text[:1] in _CLOSING:
            raise _wrong(f"{name}: '{text}' is not YAML: {str(error).splitlines()[0]}") from None
        return text
    if _LEADING_ZERO.fullmatch(text):
        return text
    quoted = text[:1] in ("'", '"')
    return value if quoted or text[:1] in _CLOSING or isinstance(value, int | float | None) else text


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
