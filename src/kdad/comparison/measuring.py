"""What every case's maps and scores are measured by, whatever system made them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdad.comparison.results import pixel_histograms
from kdad.images.ground_truth import GroundTruth, split_rows
from kdad.images.image_set import ImageSet
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.ranking import detection_metrics
from kdad.parameters.scoring import MeasuringParameters
from kdad.reporting.heatmap_sheet import draw_heatmap_sheet
from kdad.seeding import numpy_generator


@dataclass(frozen=True)
class Judged:
    """A case's scores and threshold, and its maps `(N, H, W)`, filtered and raw, held-out images first."""

    scores: pd.DataFrame
    threshold: dict[str, Any]
    method: str
    maps: np.ndarray
    raw: np.ndarray


@dataclass(frozen=True)
class Truth:
    """The images of a category, their split and their masks."""

    table: pd.DataFrame
    images: ImageSet
    ground_truth: GroundTruth


def measure_maps(
    judged: Judged, settings: MeasuringParameters, truth: Truth, sheet_rows: int, folder: Path
) -> dict[str, Any]:
    """Measure detection and localisation on test images, and leave heat maps, scores and histograms in `folder`."""
    shown = judged.scores[judged.scores["split"] == "test"].reset_index(drop=True)
    labels = shown["label"].to_numpy()
    generator = numpy_generator(0, "bootstrap")
    metrics = detection_metrics(labels, shown["score"].to_numpy(), settings.bootstrap_resamples, generator)
    test = split_rows(truth.table, "test")
    maps, raw = (stack[len(stack) - len(test) :] for stack in (judged.maps, judged.raw))
    known = truth.ground_truth
    if known.reason:
        metrics |= dict.fromkeys(PIXEL_METRICS)
    else:
        at = known.positions
        sigma = settings.smoothing[judged.method].gaussian_sigma
        metrics |= localisation_metrics(known.masks, maps[at], raw[at], sigma, settings.max_fpr)
        normal, anomalous = pixel_histograms(known.masks, maps[at])
        np.savez_compressed(folder / "histograms.npz", normal=normal, anomalous=anomalous)
    all_masked = known.reason is None and len(known.masks) == len(test)
    figure = draw_heatmap_sheet(
        shown,
        maps,
        lambda position: truth.images.image(test[position]),
        lambda position: known.masks[position] if all_masked else None,
        sheet_rows,
        f"{judged.method.replace('_', ' ')} maps",
    )
    figure.savefig(folder / "heatmaps.png")
    shown[["id", "label", "kind", "score", "threshold", "decision"]].to_csv(folder / "scores.csv", index=False)
    return {
        "metrics": metrics,
        "labels": labels.tolist(),
        "scores": shown["score"].tolist(),
        "threshold": judged.threshold["value"],
    }
