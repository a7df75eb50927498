"""What a detector thinks of a folder of images: a sheet of the most anomalous, a page of all; and what two think.

A table of predictions has a row a file: path (relative), score, threshold, decision (0 or 1), percentile (share of the
normal validation images that score lower), height, width, milliseconds, problem, thumbnail and heat_map (paths relative
to the page, or None), and perhaps label (0, 1, or NaN where it is unknown). A file that could not be read has a problem
and no score.

A table of comparisons has path, label, problem, by which detectors the file was seen before (or missing), and of each
detector (`a`, `b`) score, margin (above its own threshold) and decision.
"""

import heapq
import math
import os
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator
from PIL import Image

from kdad.detectors.predictor import FilePrediction, colour_limits_of
from kdad.parameters.written_names import printable, shorten_name
from kdad.reporting.heat_maps import are_ratios
from kdad.reporting.html import embedded, embedded_figure, render_html
from kdad.reporting.overlays import encode_picture, small_overlay, thumbnail_size
from kdad.reporting.style import ANOMALOUS, INK, MUTED, NORMAL, draw_message, drawable, new_figure, plain_axes
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
        unreadable=[{**path_parts(record), "problem": printable(record["problem"])} for record in unreadable],
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


def _number(value: float | None, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


#: Pictures on the page at most, which is one file.
_PICTURED = 100


class ComparedPictures:
    """Heat maps by both detectors, side by side, of the images that the page shows first; of others nothing is kept.

    `limits` are the values that each detector's colours run between, None for those of a map itself.
    """

    def __init__(self, limits: Sequence[tuple[float, float] | None], most: int = _PICTURED) -> None:
        self._limits, self._most = limits, most
        self._kept: list[tuple[tuple[bool, float], int, list[bytes]]] = []
        self._count = 0

    def consider(self, row: dict[str, Any], pair: Sequence[FilePrediction]) -> None:
        """Draw the next row of the table, if it stands among the first so far."""
        number, self._count = self._count, self._count + 1
        if row["problem"] is not None:
            return
        key, place = _importance(row), -number
        if len(self._kept) == self._most and (key, place) < self._kept[0][:2]:
            return
        drawn = [_draw(one, limits) for one, limits in zip(pair, self._limits, strict=True)]
        heapq.heappush(self._kept, (key, place, drawn))
        if len(self._kept) > self._most:
            heapq.heappop(self._kept)

    def by_row(self) -> dict[int, list[bytes]]:
        """Return the pictures of rows, as PNG, by the rows' positions."""
        return {-place: drawn for _, place, drawn in self._kept}


def _importance(row: Any) -> tuple[bool, float]:
    """Return what a row is sorted by, the largest first: whether it is a flip, and how far its margins are apart."""
    return bool(row["decision_a"] != row["decision_b"]), abs(row["margin_a"] - row["margin_b"])


def _draw(predicted: FilePrediction, limits: tuple[float, float] | None) -> bytes:
    anomaly_map = predicted.prediction.map
    if limits is None:
        limits = (0.0, 1.0) if anomaly_map is None else colour_limits_of(anomaly_map)
    return encode_picture(small_overlay(predicted.image, anomaly_map, limits, predicted.placement))


def render_comparison(
    title: str,
    facts: list[tuple[str, str]],
    table: pd.DataFrame,
    metrics: dict[str, Any],
    pictures: ComparedPictures,
    in_units: bool,
) -> str:
    """Return the page of a table as HTML: flips first, then by how far the margins are apart.

    `metrics` are of `measure_comparison`, `in_units` says that margins are in units of the detectors' own spread.
    """
    drawn, records = pictures.by_row(), table.to_dict("records")
    predicted = [position for position, record in enumerate(records) if pd.isna(record["problem"])]
    order = sorted(predicted, key=lambda position: _importance(records[position]), reverse=True)
    unreadable = [record for record in records if pd.notna(record["problem"])]
    has_labels = metrics["labelled"] > 0
    return render_html(
        "kdad.reporting",
        "comparison",
        title=title,
        facts=facts,
        statement=say_comparison(metrics),
        figure=embedded_figure(draw_margins(table, in_units)),
        has_labels=has_labels,
        flips=sum(_importance(records[position])[0] for position in predicted),
        pictured=len(drawn),
        rows=[_row(records[position], drawn.get(position), has_labels) for position in order],
        unreadable=[{**path_parts(record), "problem": printable(record["problem"])} for record in unreadable],
    )


def say_comparison(metrics: dict[str, Any]) -> str:
    """Say in words how many decisions differ, and where there are labels, whose are right."""
    new = " new" if metrics["seen"] else ""
    said = f"{metrics['flips']} of {metrics['images']}{new} images are decided differently."
    if not metrics["labelled"]:
        return said
    wrong = "; ".join(
        f"{name.upper()} has {metrics[name]['false_alarms']} false alarms and misses {metrics[name]['missed']}"
        for name in ("a", "b")
    )
    a, b = metrics["only_a_is_right"], metrics["only_b_is_right"]
    return (
        f"{said} Of {metrics['labelled']} labelled ones, {wrong}. Only A is right on {a}, only B on {b}: by McNemar's "
        f"exact test, p = {metrics['mcnemar_p_value']:.3g} if both are wrong equally often."
    )


def draw_margins(table: pd.DataFrame, in_units: bool) -> Figure:
    """Draw the images by their margins: A's across, B's upwards; between the lines of 0 both decide alike."""
    predicted = table[table["problem"].isna()]
    if predicted.empty:
        return draw_message("no image to show")
    figure = new_figure(5.6, 4.8)
    what = "margin by {}" if in_units else "score less threshold, {}"
    axes = plain_axes(figure.subplots(), "Scores against each other", what.format("A"), what.format("B"))
    for label, colour, name in ((0, NORMAL, "normal"), (1, ANOMALOUS, "anomalous"), (None, MUTED, "without label")):
        shown = predicted[predicted["label"].isna() if label is None else (predicted["label"] == label).fillna(False)]
        if len(shown):
            across, upwards = shown["margin_a"].astype(float), shown["margin_b"].astype(float)
            # As one picture: many thousand points would be many megabytes of SVG.
            axes.scatter(across, upwards, s=12, color=colour, alpha=0.6, label=name, rasterized=True)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xscale("symlog", linthresh=2)  # defects may lie a hundred times as far off as normal images
    axes.set_yscale("symlog", linthresh=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 3)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(frameon=False, fontsize=8)
    return figure


def _row(record: dict[str, Any], drawn: list[bytes] | None, has_labels: bool) -> dict[str, Any]:
    label = int(record["label"]) if has_labels and pd.notna(record["label"]) else None
    decisions = [int(record[f"decision_{name}"]) for name in ("a", "b")]
    flip, right = decisions[0] != decisions[1], None
    if flip and label is not None:
        right = "A is right" if decisions[0] == label else "B is right"
    return {
        **path_parts(record),
        "pictures": [embedded(content) for content in drawn or ()],
        "kind": "flip" if flip else "same",
        "label": "" if label is None else WORDS[label],
        "right": right,
        "seen": None if pd.isna(record["seen"]) else record["seen"],
        "by": [
            {
                "decision": WORDS[decision],
                "value": record[f"margin_{name}"],
                "margin": f"{record[f'margin_{name}']:+.3g}",
                "score": f"{record[f'score_{name}']:.4g}",
            }
            for name, decision in zip(("a", "b"), decisions, strict=True)
        ],
    }
