"""Names of files as text that can be printed."""

import unicodedata


def shorten_name(name: str, length: int = 22) -> str:
    """Shorten a file's name to `length` characters by leaving out its middle: names often differ at their ends."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def printable(text: str) -> str:
    """Return the text with a replacement character for line breaks, other controls and bytes that are no UTF-8."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)
