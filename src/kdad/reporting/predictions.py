"""What a detector thinks of a folder of images: a contact sheet of the most anomalous, and a page of all.

A table of predictions has a row a file: path (relative), score, threshold, decision (0 or 1), percentile (share of the
normal validation images that score lower), height, width, milliseconds, problem, thumbnail and heat_map (paths relative
to the page, or None), and perhaps label (0, 1, or NaN where it is unknown). A file that could not be read has a problem
and no score.
"""

import math
import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kdad.parameters.written_names import printable, shorten_name
from kdad.reporting.heat_maps import are_ratios
from kdad.reporting.html import embedded_figure, render_html
from kdad.reporting.overlays import thumbnail_size
from kdad.reporting.style import ANOMALOUS, INK, NORMAL, draw_message, drawable, new_figure
from kdad.reporting.threshold_remarks import metric_tiles

#: Decisions and labels in words.
WORDS = ("normal", "anomalous")
_MISTAKES = {(0, 1): "false alarm", (1, 0): "missed"}  # by label and decision
_COLUMNS = 8


def draw_contact_sheet(table: pd.DataFrame, thumbnails: Callable[[int], Image.Image], count: int = 40) -> Figure:
    """Draw up to `count` images of a table of predictions, the highest scores first.

    `thumbnails(i)` gives the picture of the table's row at position `i`.
    """
    positions = _by_score(table)
    if not positions:
        return draw_message("no image to show")
    shown = positions[:count]
    columns = min(_COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = new_figure(max(1.5 * columns, 3.5), 1.8 * lines + 0.4)
    title = f"{len(shown)} of {len(positions)} images, the highest scores first"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK, fontweight="bold")
    ratios = are_ratios(table)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for axes, position in zip(grid, shown, strict=False):
        _draw_picture(axes, table.iloc[position], thumbnails(position), ratios)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    return figure


def _by_score(table: pd.DataFrame) -> list[int]:
    """Return the positions of the files that were scored, the highest scores first; equal scores keep their order."""
    scores = table["score"].reset_index(drop=True).dropna()
    return scores.sort_values(ascending=False, kind="stable").index.tolist()


def _draw_picture(axes: Axes, row: pd.Series, picture: Image.Image, ratios: bool) -> None:
    colour = ANOMALOUS if row["decision"] == 1 else NORMAL
    axes.imshow(picture, cmap="gray")  # the map is for pictures of one channel
    axes.set(xticks=[], yticks=[], anchor="N")  # titles of a line stand side by side
    axes.spines[:].set(color=colour, linewidth=1.5)
    name = shorten_name(printable(PurePosixPath(row["path"]).name))
    # Dollar signs in a file's name are no formula.
    axes.set_title(f"{drawable(name)}\n{_score_text(row, ratios)}", fontsize=6.5, color=colour, parse_math=False)


def _score_text(row: Any, ratios: bool) -> str:
    return f"{row['score'] / row['threshold']:.2f} x threshold" if ratios else f"{row['score']:.4g}"


def render_predictions(
    title: str,
    facts: list[tuple[str, str]],
    table: pd.DataFrame,
    metrics: dict[str, Any] | None,
    figure: Figure | None = None,
) -> str:
    """Return the page of a table of predictions as HTML, the highest scores first.

    `metrics` are of those with a label, as `measure_detection` gives them; the `figure` is of the scores. The page
    refers to thumbnails and heat maps by their relative paths, so that it moves with their folder.
    """
    ratios = are_ratios(table)
    has_labels = "label" in table and bool(table["label"].notna().any())
    records = table.to_dict("records")
    unreadable = [record for record in records if pd.isna(record["score"])]
    return render_html(
        "kdad.reporting",
        "predictions",
        title=title,
        facts=facts,
        tiles=metric_tiles(metrics) if metrics else [],
        figure=figure and embedded_figure(figure),
        has_labels=has_labels,
        predicted=[_predicted(records[position], ratios, has_labels) for position in _by_score(table)],
        unreadable=[{**path_parts(record), "problem": _text(record["problem"]) or "unknown"} for record in unreadable],
    )


def _predicted(record: dict[str, Any], ratios: bool, has_labels: bool) -> dict[str, Any]:
    """Return what the page shows of an image that was predicted."""
    decision = int(record["decision"])
    label = int(record["label"]) if has_labels and pd.notna(record["label"]) else None
    width, height = int(record["width"]), int(record["height"])
    score, threshold = f"{record['score']:.4g}", f"{record['threshold']:.4g}"
    return {
        **path_parts(record),
        "decision": WORDS[decision],
        "score": _score_text(record, ratios),
        "value": record["score"],
        "detail": f"score {score}" if ratios else f"threshold {threshold}",
        "percentile": _number(record["percentile"], ".1%").replace("%", " %"),
        "size": f"{width} x {height}",
        "milliseconds": _number(record["milliseconds"], ",.0f"),
        "label": "" if label is None else WORDS[label],
        "mistake": _MISTAKES.get((label, decision)),
        "thumbnail": _link(record["thumbnail"]),
        "thumbnail_size": thumbnail_size(width, height),
        "heat_map": _link(record["heat_map"]),
    }


def path_parts(record: dict[str, Any]) -> dict[str, str]:
    """Return the path of a table's row as `folder`, with its slash, and `name`."""
    folder, slash, name = printable(record["path"]).rpartition("/")
    return {"folder": folder + slash, "name": name}


def _link(path: str | None) -> str | None:
    """Quote a relative path as it is on disk, also one whose bytes are no UTF-8; None where there is no file."""
    return None if pd.isna(path) else quote(os.fsencode(path))


def _text(value: str | None) -> str:
    return "" if pd.isna(value) else printable(value)


def _number(value: float | None, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)
