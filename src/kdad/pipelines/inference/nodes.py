"""Nodes of the pipeline `inference`."""

import logging
from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from kdad.compute import prepare_compute
from kdad.datasets.predictions import Predictions, PredictionStream
from kdad.detectors.prediction import FilePrediction
from kdad.detectors.predictor import Predictor
from kdad.errors import IncompleteError, InputError
from kdad.images.found import FoundImages
from kdad.inference.parameters import InferenceParameters
from kdad.logs import PLAIN
from kdad.metrics.measure import measure_detection
from kdad.parameters.compute import ComputeParameters
from kdad.pipelines.inference.drifting import find_drift, reference_of, say_drift
from kdad.pipelines.inference.predicting import predict_found
from kdad.pipelines.inference.tiling import describe_sizes, describe_tiles, describe_unlike, predict_by_tiles
from kdad.pipelines.inference.understanding import as_lines, describe_detector, describe_images
from kdad.reporting.file_names import printable
from kdad.reporting.predictions import draw_contact_sheet, render_predictions
from kdad.scoring.drift import NormalReference
from kdad.scoring.parameters import MeasuringParameters

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10
_HEADLINE = ("image_auroc", "image_ap", "image_f1_max", "false_positive_rate", "true_positive_rate")


def predict_images(
    detector: Predictor, images: FoundImages, inference: InferenceParameters, compute: ComputeParameters
) -> tuple[PredictionStream, list[tuple[str, str]], NormalReference]:
    """Judge every image file as it is written, a batch in memory at once; files that cannot be read say why.

    Returned with it are what detector and images were taken for, and what their scores are compared with.
    """
    prepare_compute(compute)
    detector.require_threshold()
    if inference.maps and not detector.methods:
        raise InputError(
            f"inference.maps is asked for, but a detector of '{detector.system}' makes no maps; leave it out"
        )
    predictor, understood, sizes = detector, describe_detector(detector), None
    if inference.tiles is not None:
        predictor = predict_by_tiles(detector, inference.tiles, inference.batch_size)
        understood, sizes = understood + describe_tiles(predictor.found), describe_sizes(images, predictor.tiling)
        sizes += describe_unlike(images, predictor.found)
    understood += describe_images(images, detector, "these are judged, and not compared", sizes)
    if not detector.methods:
        understood.append(("Maps", f"none: a detector of '{detector.system}' scores whole images"))
    logger.info(as_lines("Judging", understood), extra=PLAIN)

    def files() -> Iterator[tuple[str, FilePrediction, int | None]]:
        judged = predict_found(predictor, images, inference.batch_size)
        for name, label in zip(images.names, images.labels, strict=True):
            yield name, next(judged), label  # a zip of all three would keep an image while the next is judged
        judged.close()

    map_size, limits = detector.size if inference.maps else None, predictor.colour_limits
    stream = PredictionStream(files(), len(images.paths), limits, inference.heat_maps, map_size, images.place)
    return stream, understood, reference_of(predictor)


def report_predictions(
    predictions: Predictions,
    understood: list[tuple[str, str]],
    reference: NormalReference,
    inference: InferenceParameters,
    measuring: MeasuringParameters,
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet, write the page, and compare with labels, where there are some, and with the reference."""
    table = predictions.table
    judged = table[table["score"].notna()].reset_index(drop=True)
    labelled = judged[judged["label"].notna()]
    metrics: dict[str, Any] = {
        "images": len(table),
        "unreadable": len(table) - len(judged),
        "anomalous": int(judged["decision"].sum()),
        "milliseconds_an_image": float(table["milliseconds"].mean()),
        "labelled": len(labelled),
    }
    if len(labelled):
        metrics |= measure_detection(labelled.astype({"label": int, "decision": int}), measuring)
    drift = find_drift(judged, reference, inference.drift.alpha)
    metrics |= {f"drift_{name}": value for name, value in drift.numbers().items()}
    say_drift(drift)
    counts = f"{len(judged)} judged, {metrics['anomalous']} anomalous, {metrics['unreadable']} unreadable"
    logger.info("Found: %s", counts)
    thumbnails = judged["thumbnail"]
    sheet = draw_contact_sheet(judged, lambda row: predictions.thumbnail(thumbnails[row]), inference.sheet_images)
    shown = {name: value for name, value in metrics.items() if name in _HEADLINE} if len(labelled) else None
    title = f"Predictions: {printable(inference.images)}"
    return (
        sheet,
        render_predictions(title, [*understood, ("Found", counts), ("Drift", drift.statement())], table, shown),
        metrics,
    )


def stop_on_unreadable(predictions: Predictions, page: str) -> None:
    """Raise `IncompleteError` when files could not be read; taking the `page`, it comes after all is reported."""
    table = predictions.table
    problems = table.loc[table["score"].isna(), "problem"].tolist()
    if problems:
        lines = [f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
        more = [f"  and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        raise IncompleteError(
            f"{len(problems)} of {len(table)} files could not be read; all others are judged, see "
            f"{predictions.folder}:\n" + "\n".join(lines + more)
        )
