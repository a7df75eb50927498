"""Names of files and folders as text that any table, page or place can hold."""

import os
import re
import unicodedata


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
