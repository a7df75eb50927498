"""The pipeline `comparison`: two kept detectors on one folder, before the second replaces the first."""

import logging
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.compute import prepare_compute
from kdad.detectors.predictor import Predictor
from kdad.errors import IncompleteError, InputError
from kdad.images.found import FoundImages
from kdad.inference.comparison import (
    NAMES,
    leave_out_seen,
    margin_units,
    measure_comparison,
    predict_both,
    table_row,
)
from kdad.inference.description import Facts, as_lines, describe_detector, describe_images
from kdad.inference.parameters import ComparisonParameters
from kdad.logs import PLAIN
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import blocks, made, own
from kdad.pipelines.inference import listed
from kdad.progress import counted
from kdad.reporting.comparison import ComparedPictures, render_comparison

logger = logging.getLogger(__name__)


def create_pipeline() -> Pipeline:
    """Predict images by both detectors, report, and end with an error when files could not be read."""
    inputs = own("comparison", "detectors", "images") | blocks("comparison", "compute")
    return Pipeline(
        [
            Node(compare_detectors, inputs, made("comparison", "table", "page", "metrics"), name="compare_detectors"),
            Node(stop_on_unreadable, own("comparison", "table", "page"), None, name="report_uncompared_files"),
        ],
        tags="inference",
    )


def compare_detectors(
    detectors: list[Predictor], images: FoundImages, comparison: ComparisonParameters, compute: ComputeParameters
) -> tuple[pd.DataFrame, str, dict[str, Any]]:
    """Predict every image by both detectors; return the table, the page, and what is counted.

    Raises `InputError` where both are the same detector, or one has no threshold, and as `leave_out_seen`.
    """
    prepare_compute(compute)
    for name, detector in zip(NAMES, detectors, strict=True):
        try:
            detector.require_threshold()
        except InputError as error:
            raise InputError(f"{name.upper()} of comparison.detectors: {error}") from error
    if detectors[0].digest == detectors[1].digest:
        raise InputError("comparison.detectors names the same detector twice, by its SHA-256; give two different ones")
    images, seen = leave_out_seen(images, detectors)
    units = margin_units(detectors)
    facts = _describe(detectors, images, seen, units is not None)
    logger.info(as_lines("Comparing", facts), extra=PLAIN)
    pictures, rows = ComparedPictures([one.colour_limits for one in detectors]), []
    pairs = predict_both(detectors, images.paths)
    for name, label in counted(list(zip(images.names, images.labels, strict=True)), "Comparing"):
        pair = next(pairs)
        rows.append(table_row(name, label, pair, units or (1.0, 1.0)))
        pictures.consider(rows[-1], pair)
        del pair  # a large image is not kept while the next is predicted
    table = pd.DataFrame(rows).astype({"label": "Int64", "decision_a": "Int64", "decision_b": "Int64"})
    metrics = measure_comparison(table) | {f"seen_by_{name}": count for name, count in seen.items()}
    for name, detector in zip(NAMES, detectors, strict=True):
        metrics[name] |= {"detector": detector.record.get("folder"), "digest": detector.digest}
        metrics[name] |= {"threshold": detector.threshold.value}
    title = f"Two detectors: {printable(str(comparison.images))}"
    return table, render_comparison(title, facts, table, metrics, pictures, units is not None), metrics


def _describe(detectors: list[Predictor], images: FoundImages, seen: dict[str, int], in_units: bool) -> Facts:
    facts = []
    for name, detector in zip(NAMES, detectors, strict=True):
        kept = {key: text for key, text in describe_detector(detector) if key in ("Detector", "Threshold")}
        facts += [(f"{key} {name.upper()}", text) for key, text in kept.items()]
    about = dict(describe_images(images, detectors[0], "these are compared without"))
    facts += [(key, about[key]) for key in ("Images", "Labels", "Left out")]
    facts += [
        ("Seen", f"{count} images that {name.upper()} was trained or calibrated on are left out")
        for name, count in seen.items()
        if count
    ]
    unit = (
        "how far a score is above its own threshold: 0 at the threshold, -1 at the median of the normal validation "
        "images"
    )
    return [*facts, ("Margin", unit if in_units else "score less threshold, in each detector's own units")]


def stop_on_unreadable(table: pd.DataFrame, page: str) -> None:
    """Raise `IncompleteError` when files could not be read; taking the `page`, it comes after all is reported."""
    problems = table["problem"].dropna().tolist()
    if problems:
        raise IncompleteError(
            f"{len(problems)} of {len(table)} files could not be read; all others are compared:\n{listed(problems)}"
        )
