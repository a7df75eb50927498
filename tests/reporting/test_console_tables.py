import math

import pandas as pd
import pytest
from rich.console import Console

from kdad.reporting.console_tables import frame_table, numbers_table, said


def rendered(table) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (1.0, "1"), (3, "3"), (None, "-"), (math.nan, "-"), (pd.NA, "-"), (True, "yes"), ("a", "a")],
)
def test_values_as_tables_show_them(value, text):
    assert said(value) == text


def test_columns_come_in_the_order_of_their_headings_as_far_as_there_are_any():
    table = frame_table("Title", pd.DataFrame({"b": [0.5], "a": ["x"], "c": [1]}), {"a": "name", "b": "rate", "d": "?"})
    assert [column.header for column in table.columns] == ["name", "rate"]
    assert [column.justify for column in table.columns] == ["left", "right"]
    assert [list(column.cells) for column in table.columns] == [["x"], ["0.5"]]


def test_of_very_many_rows_the_first_are_shown():
    table = frame_table("Title", pd.DataFrame({"row": range(61)}), {"row": "row"})
    assert list(table.columns[0].cells) == [str(row) for row in range(60)]
    assert table.caption == "the first 60 of 61 rows"


def test_a_title_is_not_wrapped_to_the_width_of_numbers():
    title = "a title that is wider than its table"
    assert title in rendered(numbers_table(title, {"fit_seconds": 3})).splitlines()[0]
