"""The pipeline `inference`: a kept detector judges images that it has not seen."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from kdad.compute import prepare_compute
from kdad.detectors.predictor import Predictor
from kdad.errors import IncompleteError, InputError
from kdad.images.found import FoundImages
from kdad.inference.description import Facts, as_lines, describe_detector, describe_images
from kdad.inference.drift import find_drift, reference_of, say_drift
from kdad.inference.parameters import InferenceParameters
from kdad.inference.predicting import predict_labelled
from kdad.inference.predictions import Predictions, write_predictions
from kdad.inference.tiling import describe_sizes, describe_tiles, describe_unlike, predict_by_tiles
from kdad.inference.watching import Watch, WatchReport
from kdad.logs import PLAIN
from kdad.metrics.measure import measure_detection
from kdad.metrics.names import METRICS
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import blocks, made, own
from kdad.project.interruption import RaiseOnSignal, StopRequested
from kdad.reporting.predictions import draw_contact_sheet, render_predictions
from kdad.scoring.drift import NormalReference
from kdad.scoring.parameters import MeasuringParameters

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 10
_OUTPUT = {"output": "inference.output_folder"}
_REPORT = ("contact_sheet", "page", "metrics")
_HEADLINE = [key for key, metric in METRICS.items() if metric.kind != "pixel"]


def predict_images(
    detector: Predictor,
    images: FoundImages,
    output: Path,
    inference: InferenceParameters,
    compute: ComputeParameters,
) -> tuple[Predictions, Facts, NormalReference]:
    """Predict every image file and write it to `output`, a batch in memory at once; files that cannot be read say why.

    Returned with the finished table are what detector and images were taken for, and what scores are compared with.
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
    files = predict_labelled(predictor, images, inference.batch_size)
    map_shape = (len(images.paths), *detector.size) if inference.maps else None
    with RaiseOnSignal():
        predictions = write_predictions(
            output, files, images.place, predictor.colour_limits, inference.heat_maps, map_shape
        )
    return predictions, understood, reference_of(predictor)


def report_predictions(
    predictions: Predictions,
    understood: Facts,
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
    facts = [*understood, ("Found", counts), ("Drift", drift.statement())]
    return sheet, render_predictions(title, facts, table, shown), metrics


def report_unreadable_files(predictions: Predictions, page: str) -> None:
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


def watch_folder(
    detector: Predictor,
    folder: Path,
    output: Path,
    inference: InferenceParameters,
    compute: ComputeParameters,
) -> tuple[Predictions, Facts, NormalReference]:
    """Predict files as they arrive and write each to `output` before the next is begun, until told to end.

    Returned with the table are what the detector was taken for, and what scores are compared with.
    """
    prepare_compute(compute)
    detector.require_threshold()
    predictor, understood, tiles = detector, describe_detector(detector), None
    if inference.tiles is not None:
        predictor = predict_by_tiles(detector, inference.tiles, inference.batch_size)
        understood += describe_tiles(predictor.found)
        tiles = f"{predictor.tiling}, threshold {predictor.threshold.value!r}"
    understood.append(("Watching", printable(str(folder))))
    logger.info(as_lines("Judging what arrives, until Ctrl-C", understood), extra=PLAIN)
    heading = {"format": 1, "folder": str(folder.resolve()), "detector": detector.key}
    heading |= {"threshold": detector.threshold.value, "tiles": tiles}
    reference = reference_of(predictor)
    report = WatchReport(understood, reference, inference)
    with StopRequested() as stop:
        predictions = Watch(output, folder, predictor, heading, report, inference).run(lambda: stop.requested)
    return predictions, understood, reference


def report_watch(
    predictions: Predictions, understood: Facts, reference: NormalReference, inference: InferenceParameters
) -> tuple[Figure, str, dict[str, Any]]:
    """Draw the contact sheet and write the page of the latest files, and count all of them."""
    report = WatchReport(understood, reference, inference)
    for row in predictions.table.to_dict("records"):
        report.add(row)
    latest = report.table
    latest = latest[latest["score"].notna()].reset_index(drop=True)
    logger.info("Found: %d files, %d anomalous", report.files, report.anomalous)
    thumbnails = latest["thumbnail"]
    sheet = draw_contact_sheet(latest, lambda row: predictions.thumbnail(thumbnails[row]), inference.sheet_images)
    return sheet, report.page(), report.metrics()


def create_pipeline() -> Pipeline:
    """Judge images, report, and end with an error when files could not be read."""
    space, understood = "inference", own("inference", "understood", "reference")
    judged = own(space, "predictions")
    return _pipeline(
        (
            predict_images,
            own(space, "detector", "images") | _OUTPUT | blocks("inference", "compute"),
            [*judged.values(), *understood.values()],
        ),
        (report_predictions, judged | understood | blocks("inference", "measuring"), made(space, *_REPORT)),
        (report_unreadable_files, judged | own(space, "page"), None),
    )


def create_watch() -> Pipeline:
    """Judge files as they arrive in a folder, until told to end, then report."""
    space, understood = "inference", own("inference", "understood", "reference")
    return _pipeline(
        (
            watch_folder,
            own(space, "detector") | {"folder": "inference.watched_folder"} | _OUTPUT | blocks("inference", "compute"),
            ["inference.watched", *understood.values()],
        ),
        (
            report_watch,
            understood | {"predictions": "inference.watched"} | blocks("inference"),
            made(space, *_REPORT),
        ),
    )


def _pipeline(*steps: tuple[Callable[..., Any], dict[str, str], list[str] | None]) -> Pipeline:
    return Pipeline(
        [
            Node(function, inputs, outputs, name=function.__name__, tags=["inference"])
            for function, inputs, outputs in steps
        ]
    )
