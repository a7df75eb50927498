"""The last step of every system: what was measured, drawn and kept."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from kedro.pipeline import Pipeline
from matplotlib.figure import Figure

from kdad.detectors.detector import Detector
from kdad.detectors.evaluation import calibrate_float32
from kdad.experiments import steps
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.metrics.ground_truth import GroundTruth, read_ground_truth
from kdad.metrics.measure import PixelCurves
from kdad.parameters.blocks import ReportingParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import BoxedNode, blocks, made, own, shared
from kdad.reporting import curves as drawing
from kdad.reporting.heat_maps import draw_test_sheet
from kdad.reporting.threshold_remarks import threshold_remarks
from kdad.reporting.training_report import TestPictures, render_training_report
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
    record = detector.record
    found = {**measured, "threshold": threshold.model_dump()}
    return {
        **{name: record[name] for name in ("dataset", "category", "root")},
        "image_size": list(detector.size),
        "seed": record["seed"],
        "source": detector.describe(detector.settings),
        "commit": code_version(Path.cwd()),
        **found,
        "remarks": threshold_remarks(found),
        **{name: fitting_cost[name] for name in ("parameters", "flops") if name in fitting_cost},
        "seconds": {"features": feature_cost["seconds"], "fitting": fitting_cost["seconds"], "mapping": mapping_cost},
        "features_reused": feature_cost["reused"],
        "fitting_reused": fitting_cost["reused"],
        "peak_memory_gb": _peak_memory(),
    }


def draw_curves(
    detector: Detector,
    scores: pd.DataFrame,
    measured: dict[str, Any],
    curves: dict[str, PixelCurves],
    measuring: MeasuringParameters,
) -> tuple[Figure, Figure]:
    """Draw ROC curves of images and pixels, and PRO curves."""
    pixel_curves = {method: found.roc for method, found in curves.items()}
    overlap_curves = {method: (found.pro.fpr, found.pro.pro) for method, found in curves.items()}
    areas = {
        name: {method: found[name] for method, found in measured["localisation"].items()}
        for name in ("pixel_auroc", "pro_auc")
    }
    test, title = scores[scores["split"] == "test"], _title(detector)
    roc = drawing.draw_roc(test, measured, pixel_curves, areas["pixel_auroc"], title)
    reason = measured["localisation_left_out"]
    return roc, drawing.draw_pro(overlap_curves, areas["pro_auc"], measuring.max_fpr, reason, title)


def draw_score_histogram(detector: Detector, scores: pd.DataFrame, threshold: Threshold) -> Figure:
    """Draw how scores lie around the threshold."""
    return drawing.draw_score_histogram(scores, threshold, _title(detector))


def draw_loss_curves(detector: Detector, loss_history: pd.DataFrame) -> Figure:
    """Draw the losses of the training, epoch by epoch."""
    return drawing.draw_loss_curves(loss_history, _title(detector))


def _title(detector: Detector) -> str:
    record = detector.record
    return f"{detector.system.replace('_', ' ')}: {printable(record['dataset'])} / {printable(record['category'])}"


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
    title = f"{_title(detector)}, {method.replace('_', ' ')} maps"
    maps, rows = split.test_maps(anomaly_maps[method]), reporting.sheet_rows
    return draw_test_sheet(scores, maps, image_set, split, ground_truth, rows, title)


def render_report(
    detector: Detector,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    ground_truth: GroundTruth,
    metrics: dict[str, Any],
    roc_figure: bytes,
    pro_figure: bytes,
    loss_figure: bytes,
    addresses: dict[str, str],
) -> str:
    """Return the training's page, with every test image; the detector is the kept one, which knows its run.

    Figures are SVG, as they were kept. `addresses` say where page, detector and data report lie in the project, and
    where MLflow's pages are.
    """
    split, methods, record = Split(split_table), detector.methods, detector.record
    rows = split.rows("test")
    maps = split.test_maps(anomaly_maps[methods[0]]) if methods else None
    limits = detector.colour_limits if methods else None
    shown = ground_truth.shown, maps, limits, image_set.size
    pictures = TestPictures(lambda position: image_set.image(rows[position]), *shown)
    figures = {"Losses by epoch": loss_figure}
    if metrics["localisation"]:  # the curve of images alone is drawn by the page itself, as the threshold moves on it
        figures = {"ROC curves": roc_figure, "Per-region overlap": pro_figure} | figures
    run = record.get("mlflow_run")
    page = addresses["page"]
    links = [(name, quote(os.path.relpath(addresses[name], page))) for name in ("detector", "data report")]
    links += [("MLflow", f"{addresses['MLflow']}#/runs/{run}")] if run else []
    facts = _facts_of(record, metrics)
    return render_training_report(_title(detector), scores, metrics, pictures, figures, facts, links)


def _facts_of(record: dict[str, Any], metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the page says of how a detector was made."""
    seconds = metrics["seconds"]
    height, width = metrics["image_size"]
    facts = {
        "data set": f"{record['dataset']} / {record['category']}",
        "folder": record["root"],
        "taken for normal": f"{record['training_images']} images to train on, {record['validation_images']} for the "
        "threshold",
        "model's size": f"{height} x {width}",
        "source": metrics["source"],
        "seed": record["seed"],
        "commit": record["commit"],
        "made": record["made"],
        "command": record.get("command"),
        "seconds": f"{seconds['features']:.1f} features, {seconds['fitting']:.1f} fitting, "
        f"{sum(seconds['mapping'].values()):.1f} maps",
    }
    return [(name, printable(str(value))) for name, value in facts.items() if value is not None]


def keep_detector(
    fitted: Detector,
    scores: pd.DataFrame,
    threshold: Threshold,
    anomaly_maps: dict[str, np.ndarray],
    metrics: dict[str, Any],
    image_set: ImageSet,
    split_table: pd.DataFrame,
    feature_caches: dict[str, FeatureCache],
    measuring: MeasuringParameters,
) -> Detector:
    """Give the fitted detector its thresholds, the normal scores that others are ranked among, and its metrics."""
    feature_set = FeatureSet(image_set, Split(split_table), feature_caches)
    calibrate_float32(fitted, feature_set, measuring.threshold_quantile, measuring.group_score)
    return steps.calibrate(fitted, feature_set, scores, threshold, anomaly_maps, metrics, measuring)


def _peak_memory() -> float | None:
    """Return this process's peak resident memory in GB; None where the system does not tell."""
    status = Path("/proc/self/status")  # getrusage would count the process that started this one
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


def create_pipeline(system: str) -> Pipeline:
    """Measure detection and localisation, draw the figures, write the metrics, keep the detector."""
    images, fitted = shared("image_set", "split_table"), {"detector": f"{system}.fitted"}
    measured = fitted | images | blocks("measuring")
    drawn = fitted | images | blocks("reporting")
    kept = images | {"feature_caches": f"{system}.features"} | blocks("measuring")
    shown = "scores anomaly_maps ground_truth metrics roc_figure pro_figure loss_figure"
    # A function, what it takes of its own system, what else, and what it makes.
    nodes = [
        (measure_detector, "scores raw_maps anomaly_maps", measured, "measured curves ground_truth"),
        (write_metrics, "measured threshold feature_cost fitting_cost mapping_cost", fitted, "metrics"),
        (draw_curves, "scores measured curves", fitted | blocks("measuring"), "roc_figure pro_figure"),
        (draw_score_histogram, "scores threshold", fitted, "score_histogram_figure"),
        (draw_loss_curves, "loss_history", fitted, "loss_figure"),
        (draw_heatmap_sheet, "scores anomaly_maps ground_truth", drawn, "heatmap_sheet"),
        (keep_detector, "fitted scores threshold anomaly_maps metrics", kept, "detector"),
        (render_report, f"detector {shown} addresses", images, "training_report"),
    ]
    return Pipeline(
        [
            BoxedNode(
                function,
                own(system, *names.split()) | others,
                made(system, *outputs.split()) if " " in outputs else f"{system}.{outputs}",
                name=f"{system}_{function.__name__}",
                tags=["reporting"],
                namespace="report",
            )
            for function, names, others, outputs in nodes
        ]
    )
