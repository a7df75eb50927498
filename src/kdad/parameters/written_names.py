"""Names of files and folders, and given values, as text that any table, page, place or catalog can hold."""

import os
import re
import unicodedata
from typing import Any

#: Characters of private use, which are in no name, for either brace.
_HIDDEN = str.maketrans("{}", "\ue000\ue001")
_SHOWN = {there: ord(brace) for brace, there in zip("{}", _HIDDEN.values(), strict=True)}


def written(name: str) -> str:
    """Return a name with bytes that are no UTF-8, line breaks and other controls as escapes: ``Teil_gr\\xfcn.png``.

    Different names stay different: a backslash is doubled.
    """
    text = os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
        for letter in text
    )


def plain_name(name: str) -> str:
    """Return a name of letters, digits, dots and dashes, as every system and shell takes: ``brick_champion``.

    Different names may become one.
    """
    return re.sub(r"[^\w.-]+", "_", name)


def folder_name(name: str) -> str:
    """Return a name as `written`, with braces as escapes too: in a path of Kedro's catalog they are placeholders."""
    return written(name).replace("{", "\\x7b").replace("}", "\\x7d")


def shorten_name(name: str, length: int = 22) -> str:
    """Shorten a file's name to `length` characters by leaving out its middle: names often differ at their ends."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def printable(text: str) -> str:
    """Return the text with a replacement character for line breaks, other controls and bytes that are no UTF-8."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)


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
