"""How the scores of normal and anomalous images lie around the threshold."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad.reporting.style import ANOMALOUS, INK, MUTED, NORMAL, new_figure, plain_axes
from kdad.scoring.threshold import Threshold


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
    rate = threshold.expected_false_positive_rate
    label = f"threshold {threshold.value:.4g}: {rate:.1%} of normal images expected above"
    axes.axvline(threshold.value, color=INK, linestyle="--", linewidth=1.2, label=label)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure
