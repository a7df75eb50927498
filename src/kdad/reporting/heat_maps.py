"""The sheet of heat maps of a run."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.metrics.ground_truth import GroundTruth
from kdad.parameters.written_names import printable, shorten_name
from kdad.reporting.overlays import blend_heat
from kdad.reporting.style import ANOMALOUS, HEAT, INK, MUTED, NORMAL, draw_message, drawable, titled_figure

_SECTIONS = ("most normal", "most anomalous", "worst mistakes", "nearest the threshold")
_ACROSS = 2  # sections side by side
_NAME_LENGTH = 48  # as long as the pictures of a row are wide


def choose_sheet_rows(scores: pd.DataFrame, count: int) -> dict[str, list[int]]:
    """Choose up to `count` positions of `scores` (test images) for each section of the sheet.

    Most normal: normal images of the lowest scores. Most anomalous: anomalous images of the highest. Worst mistakes:
    images on the wrong side of the threshold, farthest first (by the ratio to it, or by the difference where scores can
    be negative); empty when there is none. Nearest the threshold: borderline cases, on either side.
    """
    label, score, decision = (scores[name].to_numpy() for name in ("label", "score", "decision"))
    order = np.argsort(score, kind="stable")
    normal = [int(i) for i in order if label[i] == 0]
    anomalous = [int(i) for i in order[::-1] if label[i] == 1]
    threshold = scores["threshold"].to_numpy()
    distance = np.abs(np.log(score / threshold) if are_ratios(scores) else score - threshold)
    wrong = [int(i) for i in np.argsort(-distance, kind="stable") if label[i] != decision[i]]
    near = [int(i) for i in np.argsort(distance, kind="stable")]
    chosen = dict(zip(_SECTIONS, (normal, anomalous, wrong, near), strict=True))
    return {name: rows[:count] for name, rows in chosen.items() if rows}


def are_ratios(scores: pd.DataFrame) -> bool:
    """Tell whether scores are distances from zero, so that a multiple of the threshold means something."""
    return bool(scores["score"].min() > 0 and scores["threshold"].min() > 0)


def draw_test_sheet(
    scores: pd.DataFrame, maps: np.ndarray, images: ImageSet, split: Split, truth: GroundTruth, rows: int, title: str
) -> Figure:
    """Draw test images with their maps `(N, H, W)`."""
    test = split.rows("test")
    shown = scores[scores["split"] == "test"].reset_index(drop=True)
    return draw_heatmap_sheet(shown, maps, lambda position: images.image(test[position]), truth.shown, rows, title)


def draw_heatmap_sheet(
    scores: pd.DataFrame,
    maps: np.ndarray,
    image: Callable[[int], np.ndarray],
    mask: Callable[[int], np.ndarray | None],
    count: int,
    title: str,
) -> Figure:
    """Draw the sheet of test images; all maps share one colour scale, so that they can be compared.

    `scores` has a row a test image (columns id, label, kind, score, threshold, decision), `maps` `(N, H, W)` in its
    order; `image(i)` gives `(3, H, W)` in [0, 1], `mask(i)` `(H, W)` or None.
    """
    sections = choose_sheet_rows(scores, count)
    if not sections:
        return draw_message("no test image to show")
    shown = [row for rows in sections.values() for row in rows]
    masks = {row: mask(row) for row in shown}
    panels = (
        ["image", "mask", "map", "overlay"]
        if any(m is not None and m.any() for m in masks.values())
        else ["image", "map", "overlay"]
    )
    low, high = np.quantile(maps[shown], [0.02, 0.999])
    aspect = maps.shape[1] / maps.shape[2]
    rows, lines = max(len(chosen) for chosen in sections.values()), -(-len(sections) // _ACROSS)
    across = min(_ACROSS, len(sections))
    height = ((1.22 * aspect + 0.36) * rows + 0.5) * lines
    figure = titled_figure(1.22 * len(panels) * across + 0.4, height + 1.1, title)
    above, below = figure.subfigures(2, 1, height_ratios=(height, 0.6))
    ratios = are_ratios(scores)
    parts = above.subfigures(lines, across, squeeze=False).ravel()
    for part, (name, chosen) in zip(parts, sections.items(), strict=False):
        part.suptitle(name, fontsize=10, color=MUTED)
        grid = part.subplots(rows, len(panels), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, row in zip(grid, chosen, strict=False):
            pictures = image(row), masks[row], maps[row]
            _draw_row(dict(zip(panels, line, strict=True)), scores.iloc[row], *pictures, (low, high), ratios)
    colours = ScalarMappable(Normalize(low, high), HEAT)
    bar = below.colorbar(colours, cax=below.subplots(), orientation="horizontal", extend="both")
    bar.set_label("anomaly map (no unit), the same colours in all pictures", color=INK, fontsize=9)
    return figure


def _draw_row(
    axes: dict[str, Axes],
    score: pd.Series,
    image: np.ndarray,
    mask: np.ndarray | None,
    anomaly_map: np.ndarray,
    limits: tuple,
    ratios: bool,
) -> None:
    axes["image"].imshow(np.moveaxis(image, 0, -1))
    axes["map"].imshow(anomaly_map, cmap=HEAT, vmin=limits[0], vmax=limits[1])
    axes["overlay"].imshow(blend_heat(image, anomaly_map, limits))
    if mask is not None and mask.any():  # that of a normal image would be a black square
        axes["mask"].imshow(mask, cmap="gray", vmin=0, vmax=1)
        axes["overlay"].contour(mask, levels=[0.5], colors="white", linewidths=0.7)
    colour = ANOMALOUS if score["label"] else NORMAL
    axes["image"].set_title(drawable(_caption(score, ratios)), loc="left", fontsize=7, color=colour, parse_math=False)


def _caption(score: pd.Series, ratios: bool) -> str:
    """Return an image's file name, kind, score and threshold, and on which side of it a mistake lies."""
    value, threshold = score["score"], score["threshold"]
    place = f"{value:.4g} = {value / threshold:.2f} x" if ratios else f"{value:.4g},"
    text = f"{score['kind'].replace('_', ' ')}: {place} threshold {threshold:.4g}"
    side = "above" if score["decision"] else "below"
    mistake = "" if score["label"] == score["decision"] else f" ({side}!)"
    return f"{shorten_name(printable(score['id']), _NAME_LENGTH)}\n{text}{mistake}"
