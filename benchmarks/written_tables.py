"""Tables of Markdown, and the part of a page that a script writes."""

import textwrap
from collections.abc import Iterable

import pandas as pd

_WIDTH = 120  # of lines of prose
_END = "<!-- end of what is written -->"


def number(value: float, digits: str = ".1f") -> str:
    """Return a number with its digits, or a dash."""
    return "-" if pd.isna(value) else f"{value:{digits}}"


def spread(values: Iterable[float]) -> str:
    """Return mean and standard deviation of what is no NaN; one value without the latter."""
    found = pd.Series(list(values), dtype=float).dropna()
    return number(found.mean()) + (f" ± {found.std():.1f}" if len(found) > 1 else "")


def wrapped(text: str) -> str:
    """Return prose in short lines."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def heads(names: list[str]) -> str:
    """Return a table's first two lines."""
    return f"{line(names)}\n{'|---' * len(names)}|"


def line(cells: list[str]) -> str:
    """Return a table's line."""
    return f"| {' | '.join(cells)} |"


def replace_part(page: str, text: str, script: str) -> str:
    """Return a page with `text` between the two marks of a script; raises `SystemExit` when it has not one of each."""
    begin = f"<!-- written by benchmarks/{script} -->"
    if page.count(begin) != 1 or page.count(_END) != 1:
        raise SystemExit(f"the page needs a line '{begin}' and below it a line '{_END}'")
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{text}\n\n{_END}{rest.split(_END)[1]}"
