"""The pipeline `calibration`: a kept detector gets another threshold, without training; the old one stays as it is."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector
from kdad.detectors.predictor import Predictor, colour_limits_of, find_tiled, put_tiled
from kdad.detectors.tiled import TiledPredictor
from kdad.errors import PLAIN, InputError
from kdad.images.files.fitting import frame_of
from kdad.images.folder import hash_file
from kdad.images.layouts.layout import NORMAL, FoundImages
from kdad.images.tiling import Tiling
from kdad.inference.description import (
    as_lines,
    check_has_raw_maps,
    check_larger_than_tiles,
    describe_detector,
    describe_images,
    describe_sizes,
    new_tiled,
)
from kdad.inference.parameters import CalibrationParameters
from kdad.inference.predictions import AnyPredictor, predict_found
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.written_names import printable
from kdad.pipelines import blocks, made, own
from kdad.scoring.parameters import LABELLED_RULES, GroupScore
from kdad.scoring.threshold import (
    Calibration,
    PixelThreshold,
    Threshold,
    least_pixels,
    level_of,
    threshold_again,
    threshold_by_rule,
)

logger = logging.getLogger(__name__)

_REMEMBERED = "the scores of the validation images that the detector remembers"
_SHOWN_PROBLEMS = 10
_MAPS_FOR_LIMITS = 32
_VALUES_OF_A_MAP = 300_000
_NO_THRESHOLD = Threshold(
    value=0, rule="quantile", expected_false_positive_rate=0, false_positive_rate_bound=1, normal_images=0
)


def create_pipeline() -> Pipeline:
    """Score the calibration images, set the threshold, keep the new detector; in one step, all of it or nothing."""
    inputs = {"detector": "calibration.source"} | own("calibration", "images") | blocks("calibration", "compute")
    outputs = made("calibration", "scores", "detector", "threshold")
    return Pipeline([Node(calibrate, inputs, outputs, name="calibrate_detector")])


def calibrate(
    detector: Predictor, images: FoundImages | None, calibration: CalibrationParameters, compute: ComputeParameters
) -> tuple[pd.DataFrame, Predictor, dict[str, Any]]:
    """Set the threshold anew by the rule, on the images' scores, or without images on its validation scores.

    With tiles it is the threshold of images that are predicted by them, beside that of whole ones. Returns the scores
    (path, label, score), the detector, and what the threshold was, is and promises. Raises `InputError` before anything
    is written.
    """
    prepare_compute(compute)
    tiling = None if calibration.tiles is None else Tiling.of(calibration.tiles, detector.size)
    understood, sizes = describe_detector(detector), None
    if tiling is not None:
        check_has_raw_maps(detector)
        sizes = describe_sizes(images, tiling)
        understood.append(("Tiles", f"{tiling} or more"))
    if images is not None:
        understood += describe_images(images, detector, "these are taken for normal", sizes)
    logger.info(as_lines("Setting a threshold anew", understood), extra=PLAIN)
    known = detector if tiling is None else find_tiled(detector.tiled, tiling)
    before, limits, made = known and known.threshold, detector.colour_limits, detector.record
    min_area = _min_area(detector, calibration)
    if images is None:
        scores = pd.DataFrame({"path": None, "label": 0, "score": detector.validation_scores})
    else:
        check_calibration_images(images)
        scores, measured = _score(detector, images, calibration, tiling, min_area)
        limits = measured if tiling is not None else limits or measured
    labels, values = scores["label"].to_numpy(dtype=int), scores["score"].to_numpy(dtype=np.float64)
    groups = _groups_of(images, calibration, detector.threshold)
    if images is None and before is not None:
        threshold = threshold_again(calibration.rule, calibration.wanted, before, values)
    else:
        threshold = threshold_by_rule(calibration.rule, calibration.wanted, labels, values, *groups)
    said = printable(str(images.place.absolute())) if images is not None else _REMEMBERED
    if min_area is not None:
        detector.pixel_threshold = _pixel_threshold(detector, scores, calibration, min_area, groups[0])
        logger.info("Pixel threshold: %s", detector.pixel_threshold.statement(), extra=PLAIN)
    # Scores are ranked among the normal images that the threshold was set on, whichever those are.
    normal = values[labels == 0]
    kept = {name: value for name, value in made.items() if name not in ("folder", "found")}
    if images is not None:
        kept["seen"] = " ".join(sorted(detector.seen | {hash_file(path) for path in images.paths}))
    source = {"calibrated_from": made.get("folder"), "calibrated_from_run": made.get("mlflow_run")}
    detector.record = kept | source
    if tiling is None:
        if isinstance(detector, Detector):
            detector.in_float32 = _in_float32(detector, images, calibration, groups)
        detector.calibrated(threshold, normal, limits)
        _set_categories(detector, calibration)
        detector.record |= {"calibrated_on": said}
    else:
        new = new_tiled(tiling, threshold, normal, images).model_copy(update={"colour_limits": limits})
        detector.tiled = put_tiled(detector.tiled, new)
    anomalous = 0 if calibration.rule in LABELLED_RULES else int((labels == 1).sum())
    left_out = f"; {anomalous} anomalous ones are left out" if anomalous else ""
    statement = threshold.statement()
    if calibration.rule == "value":
        above = [f"{(of > threshold.value).sum()} of {of.size}" for of in (normal, values[labels == 1])]
        on = f"{said} ({above[0]} normal, {above[1]} anomalous images exceed it)"
    else:
        counts = f"{threshold.normal_images} normal, {threshold.anomalous_images} anomalous images"
        on = f"{said} ({counts}{left_out})"
    logger.info(
        "Threshold%s %s -> %.6g by %s on %s: %s",
        "" if tiling is None else f" for tiles of {tiling}:",
        "none" if before is None else f"{before.value:.6g}",
        *(threshold.value, threshold.rule, on, statement),
        extra=PLAIN,
    )
    facts = {"before": None if before is None else before.model_dump(), "threshold": threshold.model_dump()}
    return scores, detector, facts | {"statement": statement}


def _min_area(detector: Predictor, calibration: CalibrationParameters) -> int | None:
    """Return the least area of regions where a threshold on maps is set, else None; raises `InputError` without any."""
    if calibration.pixel_rule is None:
        return None
    before = detector.pixel_threshold
    if not detector.methods:
        raise InputError(
            f"calibration.pixel_rule is of maps, and a detector of '{detector.system}' makes none; leave it out"
        )
    min_area = calibration.min_area or (1 if before is None else before.min_area)
    if calibration.images is None and (before is None or min_area != before.min_area):
        remembered = "none" if before is None else f"those of regions of {before.min_area} pixels or more"
        raise InputError(
            f"the detector remembers {remembered} of its validation images' maps; give calibration.images, a folder of "
            "normal images"
        )
    return min_area


def _pixel_threshold(
    detector: Predictor,
    scores: pd.DataFrame,
    calibration: CalibrationParameters,
    min_area: int,
    groups: np.ndarray | None,
) -> PixelThreshold:
    """Return the threshold on maps by the levels of normal images, or those that the detector remembers."""
    rule, wanted, before = calibration.pixel_rule, calibration.pixel_value, detector.pixel_threshold
    if "level" not in scores:
        return before.again(rule, wanted)
    labels, levels = scores["label"].to_numpy(dtype=int), scores["level"].to_numpy(dtype=np.float64)
    threshold = threshold_by_rule(rule, wanted, labels, levels, groups)
    return PixelThreshold.of(threshold, levels[labels == 0], min_area=min_area)


def _groups_of(
    images: FoundImages | None, calibration: CalibrationParameters, before: Threshold | None
) -> tuple[np.ndarray | None, GroupScore | None]:
    """Return the group of each image, and how groups get their scores, None where they are not decided on."""
    group_score = None if before is None else before.group_score
    if images is None or calibration.groups is None:
        if images is not None and group_score is not None:
            logger.warning(
                "The detector decided on groups, and the new threshold decides on images alone; calibration.groups "
                "says which images belong together"
            )
        return None, None
    return np.array(images.groups(calibration.groups)), group_score


def _set_categories(detector: Predictor, calibration: CalibrationParameters) -> None:
    """Set each category's threshold by the same rule on the scores that it remembers, or say that it stays."""
    if calibration.images is None and calibration.rule != "value":
        again = {name: kept.again(calibration.rule, calibration.wanted) for name, kept in detector.by_category.items()}
        detector.by_category = again
    elif detector.by_category:
        logger.warning(
            "The categories %s keep their thresholds, and the new one is that of all together; a rule of normal images "
            "without calibration.images sets each anew on the scores that it remembers",
            ", ".join(detector.by_category),
        )


def _in_float32(
    detector: Detector,
    images: FoundImages | None,
    calibration: CalibrationParameters,
    groups: tuple[np.ndarray | None, GroupScore | None],
) -> Calibration | None:
    """Return the threshold by the same rule of a detector in bfloat16 where a machine does not multiply that."""
    if images is None:
        return detector.in_float32 and detector.in_float32.again(calibration.rule, calibration.wanted)
    twin = detector.float32_twin()
    if twin is None:
        return None
    table, _ = _score(twin, images, calibration, None)
    labels, scores = table["label"].to_numpy(dtype=int), table["score"].to_numpy(dtype=np.float64)
    threshold = threshold_by_rule(calibration.rule, calibration.wanted, labels, scores, *groups)
    return Calibration.of(threshold, scores[labels == 0])


def _score(
    detector: Predictor,
    images: FoundImages,
    calibration: CalibrationParameters,
    tiling: Tiling | None,
    min_area: int | None = None,
) -> tuple[pd.DataFrame, tuple[float, float] | None]:
    if tiling is None:
        if detector.threshold is None:  # any will do: decisions are not looked at
            detector.calibrated(_NO_THRESHOLD, np.empty(0), detector.colour_limits)
        return score_images(detector, images, calibration.batch_size, min_area)
    check_larger_than_tiles(images, tiling)
    predictor = TiledPredictor(detector, new_tiled(tiling, _NO_THRESHOLD, np.empty(0), images), calibration.batch_size)
    return score_images(predictor, images, calibration.batch_size)


def check_calibration_images(images: FoundImages) -> None:
    """Raise `InputError` for images of which it is not known whether they are normal.

    Without any folder ``good`` all are taken for normal, but not those of a folder that itself lies beside a ``good``.
    """
    unknown = [name for name, label in zip(images.names, images.labels, strict=True) if label is None]
    if len(unknown) == len(images.paths):
        place = images.base.resolve()
        if (place.parent / NORMAL).is_dir():
            raise InputError(
                f"'{place}' lies beside a folder 'good', so that its images are anomalous; give the folder above for a "
                "rule with labels, or 'good' for a rule of normal images"
            )
    elif unknown:
        raise InputError(
            f"{len(unknown)} images lie neither in a folder 'good' nor beside one, the first is '{unknown[0]}'; move "
            "them, or give a folder of normal images alone"
        )


def score_images(
    predictor: AnyPredictor, images: FoundImages, batch_size: int, min_area: int | None = None
) -> tuple[pd.DataFrame, tuple[float, float] | None]:
    """Score images, those without a label as normal ones; return path, label, score, and limits for colours of maps.

    With `min_area` there is the level (`level_of`) of each map too, of regions of so many pixels of the image. Raises
    `InputError` for files that cannot be read: a threshold is not set on part of the images.
    """
    labels = [label or 0 for label in images.labels]
    scores, problems, maps, levels = [], [], [], []
    for label, predicted in zip(labels, predict_found(predictor, images, batch_size, with_images=False), strict=True):
        if predicted.prediction is None:
            problems.append(printable(predicted.problem))
            continue
        scores.append(predicted.prediction.score)
        if min_area is not None:
            own = frame_of(predicted.placement.own, predictor.size, predictor.preparation.fit)
            levels.append(level_of(predicted.prediction.map, least_pixels(min_area, own, predictor.size)))
        if label == 0 and predicted.prediction.map is not None and len(maps) < _MAPS_FOR_LIMITS:
            anomaly_map = predicted.prediction.map  # a large one in part: many do not fit into memory
            anomaly_map = anomaly_map if predictor.region is None else anomaly_map[predictor.region]
            maps.append(anomaly_map.reshape(-1)[:: max(anomaly_map.size // _VALUES_OF_A_MAP, 1)].copy())
    if problems:
        raise InputError(
            f"{len(problems)} calibration images cannot be used:\n  " + "\n  ".join(problems[:_SHOWN_PROBLEMS])
        )
    table = pd.DataFrame({"path": [printable(name) for name in images.names], "label": labels, "score": scores})
    table = table.assign(level=levels) if min_area is not None else table
    return table, colour_limits_of(np.concatenate(maps)) if maps else None
