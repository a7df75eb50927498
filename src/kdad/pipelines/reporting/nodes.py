"""Nodes that report on a detector: one measurement, figures, metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad.detectors.detector import Detector
from kdad.experiments import steps
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.metrics.ground_truth import GroundTruth, read_ground_truth
from kdad.metrics.measure import PixelCurves
from kdad.reporting import heatmap_sheet
from kdad.reporting.curves import draw_pro, draw_roc
from kdad.reporting.parameters import ReportingParameters
from kdad.reporting.threshold_remarks import threshold_remarks
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.threshold import Threshold
from kdad.storage.provenance import code_version


def measure_detector(
    detector: Detector,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    scores: pd.DataFrame,
    raw_maps: dict[str, np.ndarray],
    anomaly_maps: dict[str, np.ndarray],
    measuring: MeasuringParameters,
) -> tuple[dict[str, Any], dict[str, PixelCurves], GroundTruth]:
    """Measure how the test images' scores rank, how the threshold decides, and how each method's maps localise.

    Returns the metrics, the curves behind those of pixels by method, and the masks that they were measured against.
    """
    split = Split(split_table)
    truth = read_ground_truth(split, image_set, measuring.resolution)
    return *steps.measure(detector, split, scores, raw_maps, anomaly_maps, truth, measuring), truth


def write_metrics(
    detector: Detector,
    measured: dict[str, Any],
    threshold: Threshold,
    feature_cost: dict[str, Any],
    fitting_cost: dict[str, Any],
    mapping_cost: dict[str, float],
) -> dict[str, Any]:
    """Gather the metrics with what they were measured on, and what it cost."""
    made = detector.record
    found = {**measured, "threshold": threshold.model_dump()}
    return {
        **{name: made[name] for name in ("dataset", "category", "root")},
        "image_size": list(detector.size),
        "seed": made["seed"],
        "source": detector.describe(detector.settings),
        "commit": code_version(Path.cwd()),
        **found,
        "remarks": threshold_remarks(found),
        **{name: fitting_cost[name] for name in ("parameters", "flops") if name in fitting_cost},
        "seconds": {
            "features": feature_cost["seconds"],
            "fitting": fitting_cost["seconds"],
            "mapping": mapping_cost,
        },
        "features_reused": feature_cost["reused"],
        "fitting_reused": fitting_cost["reused"],
        "peak_memory_gb": _peak_memory(),
    }


def draw_curves(
    scores: pd.DataFrame, measured: dict[str, Any], curves: dict[str, PixelCurves], measuring: MeasuringParameters
) -> tuple[Figure, Figure]:
    """Draw ROC curves of images and pixels, and PRO curves."""
    pixel_curves = {method: found.roc for method, found in curves.items()}
    overlap_curves = {method: (found.pro.fpr, found.pro.pro) for method, found in curves.items()}
    areas = {
        name: {method: found[name] for method, found in measured["localisation"].items()}
        for name in ("pixel_auroc", "pro_auc")
    }
    test = scores[scores["split"] == "test"]
    labels, reason = test["label"].to_numpy(), measured["localisation_left_out"]
    roc = draw_roc(labels, test["score"].to_numpy(), measured["image_auroc"], pixel_curves, areas["pixel_auroc"])
    return roc, draw_pro(overlap_curves, areas["pro_auc"], measuring.max_fpr, reason)


def draw_heatmap_sheet(
    detector: Detector,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    ground_truth: GroundTruth,
    reporting: ReportingParameters,
) -> Figure:
    """Draw test images with their maps by the first localisation method."""
    split, method = Split(split_table), detector.methods[0]
    title = f"{image_set.name} / {image_set.category}: {method.replace('_', ' ')} maps"
    maps, rows = split.test_maps(anomaly_maps[method]), reporting.sheet_rows
    return heatmap_sheet.draw_test_sheet(scores, maps, image_set, split, ground_truth, rows, title)


def _peak_memory() -> float | None:
    """Return this process's peak resident memory in GB; None where the system does not tell."""
    status = Path("/proc/self/status")  # getrusage would count the process that started this one
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6
