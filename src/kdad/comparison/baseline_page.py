"""The baselines' table with their heat maps, as a page that works offline."""

import pandas as pd
from matplotlib.figure import Figure

from kdad.reporting.html import embedded_png, render_html

PROTOCOL = (
    "Fitted on training images alone; the threshold comes from held-out normal images; test images are scored once. "
    "Brackets: 95 % bootstrap interval over test images. Memory: the fitted detector's size, and in brackets by how "
    "much the process grew while it was fitted and scored."
)
_COLUMNS = (
    *("", "sees", "image AUROC", "pixel AUROC", "PRO", "pixel AUROC, MKD protocol"),
    *("fit, s", "score, ms an image", "memory, MB"),
)


def render_page(title: str, facts: str, table: pd.DataFrame, sheets: dict[str, Figure]) -> str:
    """Return the page as HTML: a row for each method of `table`, then the sheets by method."""
    return render_html(
        "kdad.comparison",
        "baselines",
        title=title,
        facts=facts,
        protocol=PROTOCOL,
        columns=_COLUMNS,
        rows=table_cells(table),
        sheets=[{"name": name.replace("_", " "), "png": embedded_png(figure)} for name, figure in sheets.items()],
    )


def table_cells(table: pd.DataFrame) -> list[list[str]]:
    """Return the table's cells as text, in the order of the page's columns; what was not measured is a dash."""
    return [
        [
            row["method"].replace("_", " "),
            row["sees"],
            _number(row["image_auroc"], f" [{_number(row['image_auroc_low'])}, {_number(row['image_auroc_high'])}]"),
            *(_number(row[name]) for name in ("pixel_auroc", "pro_auc", "pixel_auroc_mkd_protocol")),
            f"{row['fit_seconds']:.2f}",
            f"{row['milliseconds_an_image']:.1f}",
            f"{row['kept_megabytes']:.2f} [{row['peak_megabytes']:.0f}]",
        ]
        for row in table.to_dict("records")
    ]


def _number(value: float | None, rest: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:.3f}{rest}"
