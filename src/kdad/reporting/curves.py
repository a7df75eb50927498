"""Curves of a run: ROC, PRO, the loss over epochs, scores around the threshold; and of a study of soft targets."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from torch import Tensor

from kdad.detectors.soft_target.distillation import soften
from kdad.images.one_class import LabelledImages
from kdad.metrics.names import METRICS
from kdad.reporting.style import (
    ANOMALOUS,
    CYCLE,
    INK,
    MUTED,
    NORMAL,
    draw_message,
    new_figure,
    plain_axes,
    titled_figure,
)
from kdad.reporting.threshold_remarks import binomial_interval, interval_of
from kdad.scoring.threshold import Threshold

#: A curve by the name of its localisation method: x and y values.
Curves = dict[str, tuple[np.ndarray, np.ndarray]]
#: Of lines that may lie on each other.
_DASHES = ("-", "--", "-.", (0, (1, 2)))


def draw_roc(
    test: pd.DataFrame, measured: dict[str, Any], pixel_curves: Curves, pixel_auroc: dict[str, float], title: str = ""
) -> Figure:
    """Draw the ROC curve of image scores beside those of pixels, one line a localisation method.

    `test` has the columns label (0, 1), score, threshold; `measured` the images' AUROC and its interval. Without both
    labels, or without masks, the panel is left out. The band holds each true positive rate with a confidence of 95 %
    (`binomial_interval`), and the cross both rates at the threshold.
    """
    has_images = measured["image_auroc"] is not None
    panels = has_images + bool(pixel_curves)
    if not panels:
        return draw_message("no ROC curve: the test images have one label only, and no masks")
    figure = titled_figure(5.0 * panels, 4.7, title)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if has_images:
        _draw_image_roc(axes.pop(0), test, measured)
    if pixel_curves:
        names = ("Localisation: pixels", "of normal pixels", "true positive rate, share of defects' pixels")
        _draw(axes.pop(0), pixel_curves, pixel_auroc, *names)
    return figure


def _draw_image_roc(axes: Axes, test: pd.DataFrame, measured: dict[str, Any]) -> None:
    from sklearn.metrics import roc_curve  # here, since it takes a second, and a run begins long before

    label, above = test["label"] == 1, test["score"] > test["threshold"]
    normal, anomalous = int((~label).sum()), int(label.sum())
    fpr, tpr, _ = roc_curve(label, test["score"], drop_intermediate=False)
    low, high = binomial_interval(np.rint(tpr * anomalous), anomalous)
    axes.fill_between(fpr, low, high, color=CYCLE[0], alpha=0.15, linewidth=0)
    area = METRICS["image_auroc"].text(measured["image_auroc"])
    if measured["image_auroc_low"] is not None:
        area += f" [{measured['image_auroc_low']:.3f}, {measured['image_auroc_high']:.3f}]"
    names = ("Detection: images", "of normal images", "true positive rate, share of anomalous images")
    _draw(axes, {"image score": (fpr, tpr)}, {"image score": area}, *names)
    rates = [(int((above & (label == kind)).sum()), count) for kind, count in ((False, normal), (True, anomalous))]
    (x, *across), (y, *upwards) = [
        (count / total, *(np.abs(count / total - bound) for bound in binomial_interval(np.array(count), total)))
        for count, total in rates
    ]
    spread = {"xerr": np.reshape(across, (2, 1)), "yerr": np.reshape(upwards, (2, 1))}
    cuts = test["threshold"].unique()  # each category of a united set has its own
    which = f"threshold {cuts[0]:.4g}" if len(cuts) == 1 else "thresholds"
    axes.errorbar(x, y, **spread, fmt="o", color=INK, markersize=5, label=f"{which}, 95 % intervals")
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)


def draw_pro(curves: Curves, areas: dict[str, float], max_fpr: float, reason: str | None, title: str = "") -> Figure:
    """Draw per-region overlap over the pixels' false positive rate up to `max_fpr`, or say why there is none."""
    if not curves:
        return draw_message(f"no PRO curve: {reason}")
    figure = titled_figure(5.0, 4.7, title)
    axes = figure.subplots()
    names = (f"Per-region overlap to FPR {max_fpr:g}", "of normal pixels", "mean covered share of a defect's region")
    _draw(axes, curves, areas, *names, diagonal=False)
    axes.set_xlim(0, max_fpr)
    return figure


def _draw(
    axes: Axes, curves: Curves, areas: dict[str, Any], title: str, of: str, y_label: str, diagonal: bool = True
) -> None:
    plain_axes(axes, title, f"false positive rate, share {of}", y_label)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    for (name, (x, y)), colour, dashes in zip(curves.items(), CYCLE * 2, _DASHES * 3, strict=False):
        area = areas[name] if isinstance(areas[name], str) else f"{areas[name]:.3f}"
        label = f"{name.replace('_', ' ')}  {area}"
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, label=label)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)


_COLUMNS = 4
_COLOURS = {"training": NORMAL, "validation": ANOMALOUS}


def draw_loss_curves(history: pd.DataFrame, title: str = "") -> Figure:
    """Draw each term's value on training and on normal validation images, epoch by epoch.

    `history` has the columns epoch (from 0), split, term, value; one without a row is of what learns without epochs,
    and the figure says so.
    """
    terms = list(dict.fromkeys(history["term"]))
    if not terms:
        return draw_message("fitted without epochs: no loss")
    columns = min(len(terms), _COLUMNS)
    rows = -(-len(terms) // columns)
    figure = titled_figure(3.9 * columns, 3.4 * rows, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(terms) :]:
        axes.set_axis_off()
    for axes, term in zip(panels, terms, strict=False):
        plain_axes(axes, term.replace("_", " "), "epoch", "loss, mean over images")
        for split, rows in history[history["term"] == term].groupby("split", sort=False):
            marker = "o" if len(rows) < 8 else None
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.plot(
                rows["epoch"] + 1, rows["value"], color=_COLOURS[split], label=split, linewidth=1.6, marker=marker
            )
        if (history.loc[history["term"] == term, "value"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def draw_score_histogram(scores: pd.DataFrame, threshold: Threshold, title: str = "") -> Figure:
    """Draw a histogram of the scores by group, with the threshold and the false positive rate that it promises.

    `scores` has the columns split, label (0, 1, or missing), score; the line is at `threshold`.
    """
    test = scores["split"] == "test"
    groups = {
        "normal validation": (scores.loc[scores["split"] == "validation", "score"], MUTED),
        "test normal": (scores.loc[test & (scores["label"] == 0), "score"], NORMAL),
        "test anomalous": (scores.loc[test & (scores["label"] == 1), "score"], ANOMALOUS),
        "without label": (scores.loc[test & scores["label"].isna(), "score"], CYCLE[4]),
    }
    low, high = scores["score"].min(), scores["score"].max()
    logarithmic = low > 0 and high / low > 30
    edges = np.geomspace(low, high, 41) if logarithmic else np.linspace(low, high, 41)
    figure = titled_figure(6.4, 4.4, title)
    scale = ", logarithmic" if logarithmic else ""
    axes = plain_axes(figure.subplots(), "Scores and threshold", f"anomaly score (no unit{scale})", "images in a bin")
    for name, (values, colour) in groups.items():
        if len(values):
            axes.hist(values, edges, color=colour, alpha=0.25)
            axes.hist(values, edges, color=colour, histtype="step", linewidth=1.4, label=f"{name} ({len(values)})")
    if logarithmic:
        axes.set_xscale("log")
    rate, what = threshold.expected_false_positive_rate, "groups" if threshold.group_scores else "images"
    promise = "set by hand" if rate is None else f"{100 * rate:.1f} % of normal {what} expected above"
    label = f"threshold {threshold.value:.4g}: {promise}"
    if threshold.false_positive_rate_low is not None:
        label += f"\n(95 % interval {interval_of(threshold)})"
    axes.axvspan(threshold.value, edges[-1], color=MUTED, alpha=0.08, linewidth=0)
    axes.axvline(threshold.value, color=INK, linestyle="--", linewidth=1.2, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def draw_softened(
    images: LabelledImages, rows: list[int], logits: Tensor, class_names: tuple[str, ...], temperatures: list[float]
) -> Figure:
    """Draw these images beside the teacher's softened distribution at each temperature."""
    figure = new_figure(2.0 + 2.1 * len(temperatures), 1.7 * len(rows) + 0.6)
    panels = figure.subplots(len(rows), 1 + len(temperatures), squeeze=False)
    positions = np.arange(len(class_names))
    for axes, temperature in zip(panels[0, 1:], temperatures, strict=True):
        axes.set_title(f"T = {temperature:g}", fontsize=9, color=INK)
    for line, row in zip(panels, rows, strict=True):
        line[0].imshow(images.pixels[row], cmap="gray")
        line[0].set_axis_off()
        line[0].set_title(class_names[images.classes[row]].replace("_", " "), fontsize=9, color=INK)
        for axes, temperature in zip(line[1:], temperatures, strict=True):
            shares = soften(logits[row : row + 1], temperature)[0].numpy()
            colours = [CYCLE[1] if number == images.classes[row] else CYCLE[0] for number in positions]
            axes.bar(positions, shares, color=colours)
            axes.set_ylim(0, 1)
            axes.set_xticks(positions, [str(number) for number in positions], fontsize=7)
            axes.tick_params(axis="y", labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("The teacher's softened distributions; red is the label", x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def draw_sweep(sweep: pd.DataFrame, labels: int) -> Figure:
    """Draw the mean test accuracy over seeds by temperature, a line an alpha, with the spread."""
    figure = new_figure(6.4, 4.0)
    axes = plain_axes(figure.subplots(), f"{labels} labels a class", "temperature T", "test accuracy, mean ± sd")
    for colour, (alpha, block) in zip(CYCLE, sweep.groupby("alpha"), strict=False):
        found = block.groupby("temperature")["accuracy"].agg(["mean", "std"]).fillna(0.0)
        axes.errorbar(
            found.index, found["mean"], found["std"], color=colour, marker="o", capsize=3, label=f"alpha {alpha:g}"
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def draw_label_counts(labels: pd.DataFrame, teachers: pd.DataFrame) -> Figure:
    """Draw accuracy and calibration over the number of labels a class, a line a lesson; 0 labels stand for all."""
    counts = sorted(set(labels["labels"]), key=lambda count: (count == 0, count))
    names = [str(count) if count else "all" for count in counts]
    figure = new_figure(10.4, 4.0)
    panels = zip(figure.subplots(1, 2), ("accuracy", "ece"), strict=True)
    for axes, metric in panels:
        plain_axes(axes, metric if metric == "accuracy" else "calibration error", "labels a class", "mean ± sd, test")
        for colour, (lesson, block) in zip(CYCLE, labels.groupby("lesson"), strict=False):
            found = block.groupby("labels")[metric].agg(["mean", "std"]).loc[counts].fillna(0.0)
            axes.errorbar(names, found["mean"], found["std"], color=colour, marker="o", capsize=3, label=lesson)
        axes.axhline(teachers[metric].mean(), color=MUTED, linewidth=1, linestyle="--", label="teacher")
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure
