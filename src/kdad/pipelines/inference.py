"""The pipelines `inference` and `watch`: images of a folder scored by a kept detector, or those that arrive in one."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from kdad.compute import prepare_compute
from kdad.detectors.predictor import Predictor
from kdad.errors import PLAIN, IncompleteError, InputError
from kdad.images.layouts.layout import FoundImages
from kdad.inference.description import (
    Facts,
    as_lines,
    describe_detector,
    describe_images,
    describe_seen,
    describe_sizes,
    describe_tiles,
    predict_by_tiles,
)
from kdad.inference.parameters import InferenceParameters
from kdad.inference.predictions import (
    AnyPredictor,
    Groups,
    Predictions,
    count_groups,
    predict_labelled,
    write_predictions,
)
from kdad.inference.watching import Watch, WatchReport, log_drift
from kdad.metrics.measure import measure_detection
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import blocks, made, own
from kdad.project.command_line import StopRequested
from kdad.reporting.curves import draw_score_histogram
from kdad.reporting.predictions import draw_contact_sheet, render_predictions
from kdad.scoring.drift import Drift, NormalReference, compare_scores
from kdad.scoring.parameters import MeasuringParameters

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10


#: What both pipelines take and leave.
_GIVEN = own("inference", "detector") | {"output": "inference.output_folder"} | blocks("inference", "compute")
_FACTS = own("inference", "understood", "reference") | blocks("inference")
_REPORT = made("inference", "contact_sheet", "page", "metrics")


def create_pipeline() -> Pipeline:
    """Predict images, report, and end with an error when files could not be read."""
    predicted = own("inference", "predictions")
    outputs = made("inference", "predictions", "understood", "reference")
    reported = predicted | _FACTS | blocks("measuring")
    return Pipeline(
        [
            Node(predict_images, _GIVEN | own("inference", "images"), outputs, name="predict_images"),
            Node(report_predictions, reported, _REPORT, name="report_predictions"),
            Node(stop_on_unreadable, predicted | own("inference", "page"), None, name="report_unreadable_files"),
        ],
        tags="inference",
    )


def create_watch() -> Pipeline:
    """Predict files as they arrive in a folder, until told to end, then report."""
    outputs = made("inference", "watched", "understood", "reference")
    return Pipeline(
        [
            Node(watch_folder, _GIVEN | {"folder": "inference.watched_folder"}, outputs, name="watch_folder"),
            Node(report_watch, {"predictions": "inference.watched"} | _FACTS, _REPORT, name="report_watch"),
        ],
        tags="inference",
    )


def predict_images(
    detector: Predictor, images: FoundImages, output: Path, inference: InferenceParameters, compute: ComputeParameters
) -> tuple[Predictions, Facts, NormalReference]:
    """Predict every image file and write it to `output`, a batch in memory at once; files that cannot be read say why.

    Returned with the finished table are what detector and images were taken for, and what scores are compared with.
    """
    detector = _of_category(detector, inference.category)
    prepare_compute(compute)
    if inference.maps and not detector.methods:
        raise InputError(
            f"inference.maps is asked for, but a detector of '{detector.system}' makes no maps; leave it out"
        )
    predictor, understood = _by_tiles(detector, inference)
    sizes = None if inference.tiles is None else describe_sizes(images, predictor.tiling, predictor.found)
    understood += describe_images(images, detector, "these are predicted, and not compared", sizes)
    if not detector.methods:
        understood.append(("Maps", f"none: a detector of '{detector.system}' scores whole images"))
    logger.info(as_lines("Predicting", understood), extra=PLAIN)
    groups = _groups_of(detector, predictor, inference.groups)
    files = predict_labelled(predictor, images, inference.batch_size)
    map_shape = (len(images.paths), *detector.size) if inference.maps else None
    predictions = write_predictions(
        *(output, files, images.place, predictor.colour_limits, inference.heat_maps, map_shape, detector.seen),
        mark=detector.regions if inference.tiles is None else None,
        groups=groups,
    )
    return predictions, understood, NormalReference(predictor.threshold, predictor.validation_scores)


def _groups_of(detector: Predictor, predictor: AnyPredictor, by: str | None) -> Groups | None:
    """Return what decides on groups; raises `InputError` where the threshold is of images alone."""
    if by is None:
        return None
    if predictor.threshold.group_value is None:
        how = "train with measuring.group_score=max or mean"
        if detector.threshold.group_value is not None:
            how = "set the tiles' threshold anew with calibration.groups"
        raise InputError(
            f"inference.groups is given, and the detector decides on images alone; {how}, or leave inference.groups out"
        )
    return Groups(by, [predictor.threshold, detector.threshold])


def _of_category(detector: Predictor, category: str | None) -> Predictor:
    detector.require_threshold()
    return detector if category is None else detector.for_category(category)


def _by_tiles(detector: Predictor, inference: InferenceParameters) -> tuple[AnyPredictor, Facts]:
    if inference.tiles is None:
        detector.preparation.require_whole()
        return detector, describe_detector(detector)
    predictor = predict_by_tiles(detector, inference.tiles, inference.batch_size)
    return predictor, describe_detector(detector) + describe_tiles(predictor.found)


def report_predictions(
    predictions: Predictions,
    understood: Facts,
    reference: NormalReference,
    inference: InferenceParameters,
    measuring: MeasuringParameters,
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet, write the page, and compare with labels, where there are some, and with the reference."""
    table = predictions.table
    predicted = table[table["score"].notna()].reset_index(drop=True)
    new = predicted[predicted["seen"] != 1]
    seen = describe_seen(len(predicted) - len(new))
    labelled = new[new["label"].notna()]
    metrics: dict[str, Any] = {
        "images": len(table),
        "unreadable": len(table) - len(predicted),
        "anomalous": int(predicted["decision"].sum()),
        "milliseconds_an_image": float(table["milliseconds"].mean()),
        "labelled": len(labelled),
        "seen": len(predicted) - len(new),
    }
    if len(labelled):
        metrics |= measure_detection(labelled.astype({"label": int, "decision": int}), measuring)
    drift = find_drift(new, reference, inference.drift.alpha)
    metrics |= {f"drift_{name}": value for name, value in drift.numbers().items()}
    log_drift(drift)
    counts = f"{len(predicted)} predicted, {metrics['anomalous']} anomalous, {metrics['unreadable']} unreadable"
    if "group" in table:
        found, numbers = count_groups(dict(zip(table["group"], table["group_decision"], strict=True)))
        counts, metrics = f"{counts}; {found}", metrics | numbers
    logger.info("Found: %s", counts)
    for _, text in seen:
        logger.warning("%s", text)
    sheet = _draw_sheet(predicted, predictions, inference)
    title = f"Predictions: {printable(inference.images)}"
    rows = new[new["threshold"] == reference.threshold.value].assign(split="test")
    scores = pd.concat([pd.DataFrame({"split": "validation", "label": 0, "score": reference.scores}), rows])
    figure = draw_score_histogram(scores, reference.threshold, title) if len(rows) else None
    facts = [*understood, *seen, ("Found", counts), ("Drift", drift.statement())]
    return sheet, render_predictions(title, facts, table, metrics if len(labelled) else None, figure), metrics


def stop_on_unreadable(predictions: Predictions, page: str) -> None:
    """Raise `IncompleteError` when files could not be read; taking the `page`, it comes after all is reported."""
    table = predictions.table
    problems = table.loc[table["score"].isna(), "problem"].tolist()
    if problems:
        counted = f"{len(problems)} of {len(table)} files could not be read"
        raise IncompleteError(f"{counted}; all others are predicted, see {predictions.folder}:\n{listed(problems)}")


def listed(problems: list[str]) -> str:
    """Return the first problems, a line each, and how many more there are."""
    more = [f"and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
    return "\n".join(f"  {line}" for line in problems[:_SHOWN_PROBLEMS] + more)


def watch_folder(
    detector: Predictor, folder: Path, output: Path, inference: InferenceParameters, compute: ComputeParameters
) -> tuple[Predictions, Facts, NormalReference]:
    """Predict files as they arrive and write each to `output` before the next is begun, until told to end.

    Returned with the table are what the detector was taken for, and what scores are compared with.
    """
    prepare_compute(compute)
    detector = _of_category(detector, inference.category)
    predictor, understood = _by_tiles(detector, inference)
    by_tiles = f"{predictor.tiling}, threshold {predictor.threshold.value!r}" if inference.tiles else None
    understood.append(("Watching", printable(str(folder))))
    logger.info(as_lines("Predicting what arrives, until Ctrl-C", understood), extra=PLAIN)
    heading = {"format": 1, "folder": str(folder.resolve()), "detector": detector.key}
    heading |= {"threshold": detector.threshold.value, "tiles": by_tiles, "groups": inference.groups}
    groups = _groups_of(detector, predictor, inference.groups)
    reference = NormalReference(predictor.threshold, predictor.validation_scores)
    report = WatchReport(understood, reference, inference)
    with StopRequested() as stop:
        watch = Watch(output, folder, predictor, heading, report, inference, detector.seen, groups)
        predictions = watch.run(lambda: stop.requested)
    return predictions, understood, reference


def report_watch(
    predictions: Predictions, understood: Facts, reference: NormalReference, inference: InferenceParameters
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet and write the page of the latest files, and count all of them."""
    report = WatchReport(understood, reference, inference)
    for row in predictions.table.to_dict("records"):
        report.add(row)
    latest = report.table
    logger.info("Found: %s", report.found)
    sheet = _draw_sheet(latest[latest["score"].notna()].reset_index(drop=True), predictions, inference)
    return sheet, report.page(), report.metrics()


def _draw_sheet(predicted: pd.DataFrame, predictions: Predictions, inference: InferenceParameters) -> Figure:
    thumbnails = predicted["thumbnail"]
    return draw_contact_sheet(predicted, lambda row: predictions.thumbnail(thumbnails[row]), inference.sheet_images)


def find_drift(predicted: pd.DataFrame, reference: NormalReference, alpha: float) -> Drift:
    """Compare scores of the images that were predicted by the reference's threshold: of tiles, or of whole images.

    Where there are labels, scores of normal images alone.
    """
    rows = predicted[predicted["threshold"] == reference.threshold.value]
    labelled = bool(rows["label"].notna().any())
    if labelled:
        rows = rows[rows["label"] == 0]
    return compare_scores(rows["score"].to_numpy(dtype=float), reference, alpha, labelled)
