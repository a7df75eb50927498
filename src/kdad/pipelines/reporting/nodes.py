"""Nodes of the pipeline `reporting`."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.images.ground_truth import read_ground_truth, split_rows
from kdad.images.image_set import ImageSet
from kdad.images.registry import open_image_set
from kdad.metrics.localisation import PIXEL_METRICS, localisation_metrics
from kdad.metrics.pixel_ranking import pixel_roc
from kdad.metrics.ranking import detection_metrics
from kdad.metrics.region_overlap import pro_curve
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.reporting import ReportingParameters
from kdad.parameters.scoring import MeasuringParameters
from kdad.provenance import code_version
from kdad.reporting import heatmap_sheet, loss_curves, ranking_curves, score_histogram
from kdad.seeding import numpy_generator


def measure_detection(scores: pd.DataFrame, scoring: dict[str, Any], seed: int) -> dict[str, float | None]:
    """Measure how the test images' scores rank, and how the threshold decides."""
    test = scores[scores["split"] == "test"]
    labels, decisions = test["label"].to_numpy(), test["decision"].to_numpy()
    resamples = MeasuringParameters.read(scoring).bootstrap_resamples
    generator = numpy_generator(seed, "bootstrap")
    found = detection_metrics(labels, test["score"].to_numpy(), resamples, generator)
    return {
        **found,
        "false_positive_rate": _share(decisions[labels == 0]),
        "true_positive_rate": _share(decisions[labels == 1]),
        "test_normal": int((labels == 0).sum()),
        "test_anomalous": int((labels == 1).sum()),
    }


def measure_localisation(
    split_table: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    dataset: dict[str, Any],
    scoring: dict[str, Any],
    **raw_maps: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Measure every method's maps against the masks; without masks, say why nothing is measured.

    Test images that are anomalous but have no mask are left out, and counted.
    """
    settings = MeasuringParameters.read(scoring)
    truth = read_ground_truth(split_table, open_image_set(DatasetParameters(**dataset)))
    unfiltered = {method: maps for stacks in raw_maps.values() for method, maps in stacks.items()}
    methods: dict[str, Any] = {}
    for method in [name for name in settings.localisation if name in anomaly_maps]:
        if truth.reason:
            methods[method] = dict.fromkeys(PIXEL_METRICS)
            continue
        maps, raw = (_test_maps(stack[method], split_table)[truth.positions] for stack in (anomaly_maps, unfiltered))
        sigma = settings.smoothing[method].gaussian_sigma
        methods[method] = localisation_metrics(truth.masks, maps, raw, sigma, settings.max_fpr)
    unmasked = 0 if truth.reason else len(split_rows(split_table, "test")) - len(truth.positions)
    return {"methods": methods, "left_out": truth.reason, "anomalous_images_without_mask": unmasked}


def write_metrics(
    detection: dict[str, Any],
    localisation: dict[str, Any],
    threshold: dict[str, float],
    source_cost: dict[str, Any],
    cloner_cost: dict[str, Any],
    scoring_cost: dict[str, Any],
    gradient_cost: dict[str, Any],
    dataset: dict[str, Any],
    source: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Gather MKD's metrics with what they were measured on."""
    return {
        **_head(dataset, source["name"], seed),
        **_measured(detection, localisation, threshold),
        "cloner_parameters": cloner_cost["parameters"],
        "seconds": {
            "features": source_cost["seconds"],
            "cloner": cloner_cost["seconds"],
            "scoring": scoring_cost["seconds"],
            "gradient_maps": gradient_cost["seconds"],
        },
        "source_activations_reused": source_cost["reused"],
        "peak_memory_gb": _peak_memory(),
    }


def write_student_metrics(
    detection: dict[str, Any],
    localisation: dict[str, Any],
    threshold: dict[str, float],
    teachers: dict[str, Any],
    students: dict[str, Any],
    cost: dict[str, Any],
    constants: dict[str, Any],
    dataset: dict[str, Any],
    teacher: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Gather the metrics of Uninformed Students with what they were measured on."""
    fields = list(students)
    distilled = TeacherParameters(**teacher)
    learnt = distilled.source.name if distilled.knowledge_weight else "no source"
    return {
        **_head(dataset, f"teacher of {learnt}", seed),
        **_measured(detection, localisation, threshold),
        "receptive_fields": [int(field) for field in fields],
        "map_constants": constants,
        "student_parameters": sum(students[field]["parameters"] for field in fields),
        "seconds": {
            "teachers": sum(teachers[field]["seconds"] for field in fields),
            "students": sum(students[field]["seconds"] for field in fields),
            **cost,
        },
        "peak_memory_gb": _peak_memory(),
    }


def _head(dataset: dict[str, Any], source: str, seed: int) -> dict[str, Any]:
    parameters = DatasetParameters(**dataset)
    return {
        "dataset": parameters.name,
        "category": parameters.category_name,
        "image_size": list(parameters.size),
        "seed": seed,
        "source": source,
        "commit": code_version(Path.cwd()),
    }


def _measured(detection: dict[str, Any], localisation: dict[str, Any], threshold: dict[str, float]) -> dict[str, Any]:
    """Return what every system measures; pixel metrics on top are those of the first method."""
    return {
        **detection,
        **next(iter(localisation["methods"].values()), {}),
        "localisation": localisation["methods"],
        "localisation_left_out": localisation["left_out"],
        "anomalous_images_without_mask": localisation["anomalous_images_without_mask"],
        "threshold": threshold,
    }


def draw_curves(
    split_table: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    dataset: dict[str, Any],
    scores: pd.DataFrame,
    detection: dict[str, Any],
    localisation: dict[str, Any],
    scoring: dict[str, Any],
) -> tuple[Figure, Figure]:
    """Draw ROC curves of images and pixels, and PRO curves."""
    settings = MeasuringParameters.read(scoring)
    truth = read_ground_truth(split_table, open_image_set(DatasetParameters(**dataset)))
    pixel_curves, overlap_curves = {}, {}
    for method in localisation["methods"] if truth.reason is None else []:
        maps = _test_maps(anomaly_maps[method], split_table)[truth.positions]
        curve = pro_curve(truth.masks, maps, settings.max_fpr).thinned()
        pixel_curves[method], overlap_curves[method] = pixel_roc(truth.masks, maps), (curve.fpr, curve.pro)
    areas = {
        name: {m: found[name] for m, found in localisation["methods"].items()} for name in ("pixel_auroc", "pro_auc")
    }
    test = scores[scores["split"] == "test"]
    labels = test["label"].to_numpy()
    roc = ranking_curves.draw_roc(
        labels, test["score"].to_numpy(), detection["image_auroc"], pixel_curves, areas["pixel_auroc"]
    )
    return roc, ranking_curves.draw_pro(overlap_curves, areas["pro_auc"], settings.max_fpr, truth.reason)


def draw_score_histogram(scores: pd.DataFrame, threshold: dict[str, float]) -> Figure:
    """Draw the scores' histogram with the threshold."""
    return score_histogram.draw_score_histogram(scores, threshold)


def draw_loss_curves(history: pd.DataFrame) -> Figure:
    """Draw the loss by epoch and term."""
    return loss_curves.draw_loss_curves(history)


def draw_heatmap_sheet(
    split_table: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    dataset: dict[str, Any],
    scores: pd.DataFrame,
    scoring: dict[str, Any],
    reporting: dict[str, Any],
) -> Figure:
    """Draw test images with their maps by the first localisation method."""
    images = open_image_set(DatasetParameters(**dataset))
    method = MeasuringParameters.read(scoring).localisation[0]
    rows = split_rows(split_table, "test")
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    parameters = DatasetParameters(**dataset)
    return heatmap_sheet.draw_heatmap_sheet(
        test,
        _test_maps(anomaly_maps[method], split_table),
        lambda position: images.image(rows[position]),
        lambda position: _mask_to_show(images, rows[position]),
        ReportingParameters(**reporting).sheet_rows,
        f"{parameters.name} / {parameters.category_name}: {method.replace('_', ' ')} maps",
    )


def _test_maps(maps: np.ndarray, split_table: pd.DataFrame) -> np.ndarray:
    """Return the maps of the test images; held-out images, where they were mapped, come first in a stack."""
    return maps[len(maps) - len(split_rows(split_table, "test")) :]


def _mask_to_show(images: ImageSet, row: int) -> np.ndarray | None:
    mask = images.mask(row)
    is_known = images.has_masks and images.samples[row].label == 0
    return np.zeros(images.size, dtype=bool) if mask is None and is_known else mask


def _share(decisions: np.ndarray) -> float | None:
    return float(decisions.mean()) if len(decisions) else None


def _peak_memory() -> float | None:
    """Return this process's peak resident memory in GB; None where the system does not tell."""
    status = Path("/proc/self/status")  # getrusage would count the process that started this one
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6
