"""Braces in given values, where OmegaConf reads references and Kedro's catalog placeholders."""

from typing import Any

#: Characters of private use, which are in no name, for either brace.
_HIDDEN = str.maketrans("{}", "\ue000\ue001")
_SHOWN = {there: ord(brace) for brace, there in zip("{}", _HIDDEN.values(), strict=True)}


def escape_placeholders(value: Any) -> Any:
    """Return values, nested to any depth, whose text names nothing but itself to OmegaConf and Kedro."""
    return _translated(value, _HIDDEN)


def unescape_placeholders(value: Any) -> Any:
    """Return values as they were before `escape_placeholders`."""
    return _translated(value, _SHOWN)


def _translated(value: Any, letters: dict[int, int]) -> Any:
    if isinstance(value, dict):
        return {name: _translated(one, letters) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_translated(one, letters) for one in value]
    return value.translate(letters) if isinstance(value, str) else value
