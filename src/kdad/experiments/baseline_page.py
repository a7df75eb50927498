"""The baselines' table with their heat maps, as a page that works offline."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kdad.experiments.case import Case
from kdad.experiments.figures import PANELS, draw_axis
from kdad.experiments.result import CaseResult
from kdad.reporting.html import embedded_figure, embedded_png, render_html

PROTOCOL = (
    "Fitted on training images alone; the threshold comes from normal validation images; test images are scored once. "
    "Brackets: 95 % bootstrap interval over test images. Memory: the fitted detector's size, and in brackets by how "
    "much the process grew while it was fitted and scored."
)
_COLUMNS = (
    *("method", "sees", "image AUROC", "pixel AUROC", "PRO", "pixel AUROC, MKD protocol"),
    *("fit, s", "score, ms an image", "memory, MB"),
)


def baseline_table(cases: Sequence[Case], results: list[CaseResult]) -> pd.DataFrame:
    """Return a row for each finished case: method, detector, sees, metrics and costs."""
    rows = []
    for case, result in zip(cases, results, strict=True):
        if not result.finished:
            continue
        costs = {"fit_seconds": result.costs["train_seconds"]} | {
            name: result.costs[name] for name in ("milliseconds_an_image", "kept_megabytes", "peak_megabytes")
        }
        facts = {"method": case.variant, **case.detector.label(case.settings)}
        rows.append({**facts, **result.metrics, "training_images": result.training_images, **costs})
    return pd.DataFrame(rows, columns=None if rows else ["method", "detector", "sees"])


def sheets_of(results: list[CaseResult]) -> dict[str, bytes]:
    """Return the heat-map sheets as PNG by method, of those that map."""
    paths = {result.variant: Path(result.folder) / "heatmaps.png" for result in results if result.finished}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def render_page(title: str, facts: str, table: pd.DataFrame, sheets: dict[str, bytes], missing: pd.DataFrame) -> str:
    """Return the page as HTML: a row for each method of `table`, what is `missing`, the sheets (PNG) by method."""
    return render_html(
        "kdad.experiments",
        "baselines",
        title=title,
        facts=facts,
        protocol=PROTOCOL,
        missing=missing.to_dict("records"),
        figure=embedded_figure(_draw_methods(table)),
        columns=_COLUMNS,
        rows=table_cells(table),
        sheets=[{"name": name.replace("_", " "), "picture": embedded_png(png)} for name, png in sheets.items()],
    )


def _draw_methods(table: pd.DataFrame) -> Figure:
    """Draw each method's metrics; with one seed, image AUROC alone has an interval."""
    shown = table.rename(columns={"method": "variant"})
    unknown = {f"{name}_sd": float("nan") for name in PANELS if name in table}
    return draw_axis(shown.assign(**unknown), "Baselines")


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
