"""Figures of an ablation: points with their intervals, and curves over the filter's width."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdad.metrics.names import MAIN, METRICS
from kdad.reporting.style import CYCLE, INK, MUTED, draw_message, plain_axes, titled_figure

_SIGMA = re.compile(r"(?P<method>.+?)(?:_sigma_(?P<sigma>[\d.]+))?(?P<opening>_opening)?")


def draw_axis(table: pd.DataFrame, title: str) -> Figure:
    """Draw a panel for each metric of an `axis_table`: a point a variant, with its interval and its figure above it.

    Intervals are the sd over seeds; with one seed and category, image AUROC has its bootstrap interval instead.
    """
    metrics = [name for name in MAIN if name in table and table[name].notna().any()]
    if not metrics:
        return draw_message(f"{title}: nothing was measured")
    figure = titled_figure(3.5 * len(metrics) + 1.0, 0.36 * len(table) + 1.6, title)
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric, colour in zip(grid, metrics, CYCLE, strict=False):
        _draw_points(axes, table, metric, colour)
    seeds = table["seeds"].max() if "seeds" in table else 1
    said = "standard deviation over seeds" if seeds > 1 else "95 % interval over test images, of image AUROC"
    figure.supxlabel(f"bars: {said}", x=0.01, ha="left", fontsize=8, color=MUTED)
    return figure


def _draw_points(axes: Axes, table: pd.DataFrame, metric: str, colour: str) -> None:
    places = np.arange(len(table))[::-1]
    below, above = _spread(table, metric)
    error = np.stack([below, above]) if (below + above).any() else None
    plain_axes(axes, "", f"{METRICS[metric].label} (1 is perfect)", "").set_axisbelow(True)
    axes.errorbar(table[metric], places, xerr=error, fmt="o", color=colour, markersize=6, capsize=3)
    axes.set_yticks(places, [name.replace("_", " ") for name in table["variant"]])
    axes.set_ylim(-0.5, len(table) - 0.3)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for place, value in zip(places, table[metric], strict=True):
        if pd.notna(value):
            at = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
            axes.annotate(f"{value:.3f}", (value, place), (0, 4), fontsize=8, color=INK, **at)


def _spread(table: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series]:
    """Return how far the error bars of a metric reach below and above its means; 0 where nothing is known."""
    sd, bounds = table[f"{metric}_sd"], [f"{metric}_low", f"{metric}_high"]
    if sd.isna().all() and set(bounds) <= set(table):
        low, high = (table[name] for name in bounds)
        return (table[metric] - low).fillna(0), (high - table[metric]).fillna(0)
    return sd.fillna(0), sd.fillna(0)


def split_filter_name(variant: str) -> tuple[str, float, bool]:
    """Split ``gradients_sigma_4_opening`` into method, sigma (0 without) and whether an opening follows."""
    found = _SIGMA.fullmatch(variant)
    return found["method"], float(found["sigma"] or 0), bool(found["opening"])


def draw_filter(table: pd.DataFrame, title: str) -> Figure:
    """Draw localisation over the Gaussian's sigma by method; crosses have an opening, rings are the paper's figures."""
    parts = list(map(split_filter_name, table["variant"]))
    table = table.assign(**pd.DataFrame(parts, table.index, ["method", "sigma", "opening"]))
    metrics = [name for name in ("pixel_auroc", "pixel_auroc_mkd_protocol", "pro_auc") if name in table]
    if not metrics:
        return draw_message(f"{title}: there are no masks to measure localisation against")
    figure = titled_figure(4.2 * len(metrics), 3.8, title)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        plain_axes(axes, "", "Gaussian sigma, pixels", f"{METRICS[metric].label} (1 is perfect)")
        for (method, rows), colour in zip(table.groupby("method", sort=False), CYCLE, strict=False):
            line = rows[~rows["opening"]].sort_values("sigma")
            sd = line[f"{metric}_sd"].fillna(0)
            label = method.replace("_", " ")
            axes.errorbar(line["sigma"], line[metric], yerr=sd, color=colour, marker="o", capsize=3, label=label)
            opened = rows[rows["opening"]]
            axes.plot(opened["sigma"], opened[metric], "x", color=colour, markersize=9, markeredgewidth=2)
            if metric == "pixel_auroc_mkd_protocol" and "paper" in rows:
                paper = line.dropna(subset="paper")
                axes.plot(paper["sigma"], paper["paper"], "o", mfc="none", color=colour, markersize=10, linestyle=":")
        axes.margins(x=0.08, y=0.12)
    _explain_marks(figure, table)
    return figure


def _explain_marks(figure: Figure, table: pd.DataFrame) -> None:
    """Put one legend under the panels: a colour for each method, and what crosses and rings are."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    marks = {"x": ("grey opening after the Gaussian", table["opening"].any())}
    marks["o"] = ("the paper's figure", "paper" in table and table["paper"].notna().any())
    for marker, (label, is_drawn) in marks.items():
        if is_drawn:
            handles.append(Line2D([], [], color=INK, marker=marker, mfc="none", linestyle="none", markersize=8))
            labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8.5, labelcolor=INK)
