"""Figures of soft targets: what temperature does to them, and what students gain by them."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kdad.detectors.soft_target.distillation import soften
from kdad.images.published.one_class import LabelledImages
from kdad.reporting.style import CYCLE, INK, MUTED, new_figure, plain_axes


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
