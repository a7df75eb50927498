"""The loss over epochs, by term."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from kdad.reporting.style import ANOMALOUS, INK, NORMAL, new_figure, plain_axes

_COLUMNS = 4
_COLOURS = {"training": NORMAL, "validation": ANOMALOUS}


def draw_loss_curves(history: pd.DataFrame) -> Figure:
    """Draw each term's value on training and on normal validation images, epoch by epoch.

    `history` has the columns epoch (from 0), split, term, value; one without a row is of what learns without epochs,
    and the figure says so.
    """
    terms = list(dict.fromkeys(history["term"]))
    if not terms:
        figure = new_figure(3.9, 3.4)
        figure.text(0.5, 0.5, "fitted without epochs: no loss", ha="center", va="center", color=INK)
        return figure
    columns = min(len(terms), _COLUMNS)
    rows = -(-len(terms) // columns)
    figure = new_figure(3.9 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(terms) :]:
        axes.set_axis_off()
    for axes, term in zip(panels, terms, strict=False):
        plain_axes(axes, term.replace("_", " "), "epoch", "loss, mean over images")
        for split, rows in history[history["term"] == term].groupby("split", sort=False):
            marker = "o" if len(rows) < 8 else None
            axes.plot(
                rows["epoch"] + 1, rows["value"], color=_COLOURS[split], label=split, linewidth=1.6, marker=marker
            )
        if (history.loc[history["term"] == term, "value"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure
