"""Curves of a run: ROC of images and pixels, PRO, the loss over epochs, and how scores lie around the threshold."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from kdad.reporting.style import ANOMALOUS, CYCLE, INK, MUTED, NORMAL, draw_message, new_figure, plain_axes
from kdad.scoring.threshold import Threshold

#: A curve by the name of its localisation method: x and y values.
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def draw_roc(
    labels: np.ndarray,
    scores: np.ndarray,
    image_auroc: float | None,
    pixel_curves: Curves,
    pixel_auroc: dict[str, float],
) -> Figure:
    """Draw the ROC curve of image scores beside those of pixels, one line a localisation method.

    `labels` are 0 and 1, `scores` of the same length; without both labels, or without masks, the panel is left out.
    """
    panels = (image_auroc is not None) + bool(pixel_curves)
    if not panels:
        return draw_message("no ROC curve: the test images have one label only, and no masks")
    figure = new_figure(4.8 * panels, 4.4)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if image_auroc is not None:
        from sklearn.metrics import roc_curve  # here, since it takes a second, and a run begins long before

        fpr, tpr, _ = roc_curve(labels, scores)
        curves = {"image score": (fpr, tpr)}
        _draw(axes.pop(0), curves, {"image score": image_auroc}, "Detection: images", "true positive rate")
    if pixel_curves:
        _draw(axes.pop(0), pixel_curves, pixel_auroc, "Localisation: pixels", "true positive rate")
    return figure


def draw_pro(curves: Curves, areas: dict[str, float], max_fpr: float, reason: str | None) -> Figure:
    """Draw per-region overlap over the pixels' false positive rate up to `max_fpr`, or say why there is none."""
    if not curves:
        return draw_message(f"no PRO curve: {reason}")
    figure = new_figure(4.8, 4.4)
    axes = figure.subplots()
    _draw(axes, curves, areas, f"Per-region overlap to FPR {max_fpr:g}", "mean overlap of regions", diagonal=False)
    axes.set_xlim(0, max_fpr)
    return figure


def _draw(axes, curves: Curves, areas: dict[str, float], title: str, y_label: str, diagonal: bool = True) -> None:
    plain_axes(axes, title, "false positive rate", y_label)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    for (name, (x, y)), colour in zip(curves.items(), CYCLE * 2, strict=False):
        axes.plot(x, y, color=colour, linewidth=1.8, label=f"{name.replace('_', ' ')}  {areas[name]:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)


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


def draw_score_histogram(scores: pd.DataFrame, threshold: Threshold) -> Figure:
    """Draw a histogram of the scores by group, with the threshold and the false positive rate that it promises.

    `scores` has the columns split, label, score; the line is at `threshold`.
    """
    test = scores["split"] == "test"
    groups = {
        "normal validation": (scores.loc[scores["split"] == "validation", "score"], MUTED),
        "test normal": (scores.loc[test & (scores["label"] == 0), "score"], NORMAL),
        "test anomalous": (scores.loc[test & (scores["label"] == 1), "score"], ANOMALOUS),
    }
    low, high = scores["score"].min(), scores["score"].max()
    logarithmic = low > 0 and high / low > 30
    edges = np.geomspace(low, high, 41) if logarithmic else np.linspace(low, high, 41)
    figure = new_figure(6.4, 3.8)
    axes = plain_axes(figure.subplots(), "Scores and threshold", "anomaly score", "images")
    for name, (values, colour) in groups.items():
        if len(values):
            axes.hist(values, edges, color=colour, alpha=0.25)
            axes.hist(values, edges, color=colour, histtype="step", linewidth=1.4, label=f"{name} ({len(values)})")
    if logarithmic:
        axes.set_xscale("log")
    rate, what = threshold.expected_false_positive_rate, "groups" if threshold.group_scores else "images"
    promise = "set by hand" if rate is None else f"{rate:.1%} of normal {what} expected above"
    label = f"threshold {threshold.value:.4g}: {promise}"
    axes.axvline(threshold.value, color=INK, linestyle="--", linewidth=1.2, label=label)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure
