"""ROC curves of images and pixels, and PRO curves."""

import numpy as np
from matplotlib.figure import Figure

from kdad.reporting.style import CYCLE, INK, MUTED, draw_message, new_figure, plain_axes

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
