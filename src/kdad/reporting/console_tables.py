"""Tables on the console: a table of data with some of its columns, and numbers by name."""

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

_ROWS = 60
_TITLE = 80


def frame_table(title: str, frame: pd.DataFrame, headings: dict[str, str]) -> Table:
    """Return a table of the columns that `headings` names, as far as there are any; of very many rows the first."""
    columns = [name for name in headings if name in frame]
    table = _empty(title)
    for name in columns:
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(headings[name], justify="right" if is_number else "left")
    for row in frame[columns].head(_ROWS).itertuples(index=False):
        table.add_row(*map(said, row))
    if len(frame) > _ROWS:
        table.caption = f"the first {_ROWS} of {len(frame)} rows"
    return table


def numbers_table(title: str, values: dict[str, Any]) -> Table:
    """Return a table of a row for each value."""
    table = _empty(title)
    table.add_column("")
    table.add_column("")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), said(value))
    table.show_header = False
    return table


def said(value: Any) -> str:
    """Return a value as tables show it: four digits, yes or no, a dash for what was not measured."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _empty(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.min_width = min(len(title), _TITLE)  # else the title is wrapped to the width of the numbers
    return table
