"""The pipeline `comparison`: two kept detectors on one folder, before the second replaces the first."""

import logging
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.compute import prepare_compute
from kdad.detectors.predictor import Predictor
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import PLAIN, IncompleteError, InputError
from kdad.images.layouts.layout import FoundImages
from kdad.inference.comparison import (
    NAMES,
    choose_predictors,
    find_seen,
    margin_units,
    measure_comparison,
    predict_both,
    table_row,
)
from kdad.inference.description import (
    Facts,
    as_lines,
    describe_detector,
    describe_images,
    describe_sizes,
    describe_tiles,
)
from kdad.inference.parameters import ComparisonParameters
from kdad.inference.predictions import AnyPredictor
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import blocks, made, own
from kdad.pipelines.inference import listed
from kdad.progress import counted
from kdad.reporting.predictions import ComparedPictures, render_comparison

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

    Raises `InputError` where both are the same detector, and as `choose_predictors`.
    """
    prepare_compute(compute)
    predictors = choose_predictors(detectors, comparison)
    if detectors[0].digest == detectors[1].digest:
        raise InputError("comparison.detectors names the same detector twice, by its SHA-256; give two different ones")
    seen = find_seen(images, detectors)
    units = margin_units(predictors)
    facts = _describe(detectors, predictors, comparison.category, images, seen, units is not None)
    logger.info(as_lines("Comparing", facts), extra=PLAIN)
    pictures, rows = ComparedPictures([one.colour_limits for one in predictors]), []
    pairs = predict_both(predictors, images.paths)
    for name, label, by in counted(list(zip(images.names, images.labels, seen, strict=True)), "Comparing"):
        pair = next(pairs)
        rows.append(table_row(name, label, pair, units, by))
        pictures.consider(rows[-1], pair)
        del pair  # a large image is not kept while the next is predicted
    types = {"label": "Int64", "decision_a": "Int64", "decision_b": "Int64", "seen": "string"}
    table = pd.DataFrame(rows).astype(types)
    metrics = measure_comparison(table)
    for name, detector, predictor in zip(NAMES, detectors, predictors, strict=True):
        metrics[name] |= {"detector": detector.record.get("folder"), "digest": detector.digest}
        metrics[name] |= {"threshold": predictor.threshold.value}
    title = f"Two detectors: {printable(str(comparison.images))}"
    return table, render_comparison(title, facts, table, metrics, pictures, units is not None), metrics


def _describe(
    detectors: list[Predictor],
    predictors: list[AnyPredictor],
    category: str | None,
    images: FoundImages,
    seen: list[str | None],
    in_units: bool,
) -> Facts:
    facts = [] if category is None else [("Category", printable(category))]
    sizes = None
    for name, detector, predictor in zip(NAMES, detectors, predictors, strict=True):
        about = describe_detector(detector if isinstance(predictor, TiledPredictor) else predictor)
        if category is not None:
            about = [fact for fact in about if fact[0] != "Categories"]
        if isinstance(predictor, TiledPredictor):
            about += describe_tiles(predictor.found)
            sizes = describe_sizes(images, predictor.tiling)
        kept = ("Detector", "Threshold", "Categories", "Tiles", "Tiles' threshold")
        facts += [(f"{key} {name.upper()}", text) for key, text in about if key in kept]
    about = dict(describe_images(images, detectors[0], "these are compared without", sizes))
    shown = ("Images", "Labels", "Left out") if sizes is None else ("Images", "Sizes", "Labels", "Left out")
    facts += [(key, about[key]) for key in shown]
    facts += [
        ("Seen", f"{count} images that {name.upper()} was trained or calibrated on are shown, and not counted")
        for name in NAMES
        if (count := sum(name.upper() in (by or "") for by in seen))
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
