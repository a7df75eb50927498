"""A tidy table in a CSV file that Kedro-Viz shows in its wide form."""

from collections.abc import Sequence

import pandas as pd
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import CSVDataset


class TidyTableDataset(CSVDataset):
    """A CSV file with a row an observation."""

    def preview(
        self, nrows: int = 40, rows: Sequence[str] = (), columns: str = "", values: Sequence[str] = ()
    ) -> TablePreview:
        """Return the table in its wide form: a row for each of `rows`, a column for each value of `columns`.

        Cells are the means of `values` over whatever else there is, such as seeds.
        """
        wide = widen(self.load(), list(rows), columns, list(values))
        return TablePreview(wide.head(nrows).to_dict(orient="split"))


def widen(table: pd.DataFrame, rows: list[str], columns: str, values: list[str]) -> pd.DataFrame:
    """Pivot a tidy table by means; rows and columns keep the order in which they come, what is not there is empty.

    With several `values` each column's name is followed by its value's, and columns of nothing are left out.
    """
    means = table.groupby([*rows, columns], sort=False)[values].mean().unstack(columns, sort=False)
    names = [(name, value) for name in dict.fromkeys(table[columns]) for value in values]
    kept = [(name, value) for name, value in names if means[value, name].notna().any()]
    wide = pd.DataFrame(
        {f"{name} {value}" if len(values) > 1 else str(name): means[value, name] for name, value in kept},
        index=means.index,
    )
    return wide.map(_cell).reset_index()


def _cell(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.4g}"
