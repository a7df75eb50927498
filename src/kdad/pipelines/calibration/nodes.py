"""Nodes of the pipeline `calibration`."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector
from kdad.errors import InputError
from kdad.images.labels import label_by_folder
from kdad.parameters.inference import CalibrationParameters
from kdad.parameters.scoring import LABELLED_RULES
from kdad.parameters.source import ComputeParameters
from kdad.scoring.threshold import Threshold, labelled_threshold, quantile_threshold, rate_threshold

logger = logging.getLogger(__name__)


def score_images(
    detector: Detector,
    images: list[tuple[str, Path]] | None,
    calibration: CalibrationParameters,
    compute: ComputeParameters,
) -> pd.DataFrame:
    """Score the calibration images, or take the held-out scores that the detector remembers: path, label, score.

    Images in a folder ``good`` are normal, those in folders beside it anomalous; without such folders all are normal.
    Raises `InputError` for files that cannot be read: a threshold is not set on part of the images.
    """
    prepare_compute(compute)
    if images is None:
        return pd.DataFrame({"path": None, "label": 0, "score": detector.held_out_scores})
    paths = [path for _, path in images]
    labels = label_by_folder(paths)
    if all(label is None for label in labels):
        labels = [0] * len(paths)
    unknown = [name for (name, _), label in zip(images, labels, strict=True) if label is None]
    if unknown:
        raise InputError(
            f"{len(unknown)} images lie neither in a folder 'good' nor beside one, the first is '{unknown[0]}'; move "
            "them, or give a folder of normal images alone"
        )
    found = list(detector.judge_files(paths, calibration.batch_size, with_images=False))
    problems = [judged.problem for judged in found if judged.problem]
    if problems:
        raise InputError(f"{len(problems)} calibration images cannot be read:\n  " + "\n  ".join(problems[:10]))
    scores = [judged.judgement.score for judged in found]
    return pd.DataFrame({"path": [name for name, _ in images], "label": labels, "score": scores})


def calibrate(
    detector: Detector, calibration_scores: pd.DataFrame, calibration: CalibrationParameters
) -> tuple[Detector, dict[str, Any]]:
    """Set the threshold anew by the rule; return the detector, and what the threshold was, is and promises."""
    threshold = new_threshold(calibration_scores, calibration)
    normal = calibration_scores.loc[calibration_scores["label"] == 0, "score"].to_numpy()
    before = detector.threshold
    # Scores are ranked among the normal images that the threshold was set on, whichever those are.
    detector.calibrated(threshold, normal, detector.map_limits)
    said = calibration.images or "the scores of the held-out images that the detector remembers"
    detector.record = detector.record | {"calibrated_on": said, "calibrated_from": detector.record.get("folder")}
    logger.info(
        "Threshold %s -> %.6g by %s on %s (%d normal, %d anomalous): %s",
        "none" if before is None else f"{before.value:.6g}",
        *(threshold.value, threshold.rule, said, threshold.normal_images, threshold.anomalous_images),
        threshold.statement(),
    )
    facts = {"before": None if before is None else before.model_dump(), "threshold": threshold.model_dump()}
    return detector, facts | {"statement": threshold.statement()}


def new_threshold(scores: pd.DataFrame, calibration: CalibrationParameters) -> Threshold:
    """Return the threshold that the rule sets on scores with their labels.

    Rules of normal images leave anomalous ones out. Raises `InputError` as the rules do.
    """
    normal = scores.loc[scores["label"] == 0, "score"].to_numpy(dtype=np.float64)
    if calibration.rule in LABELLED_RULES:
        labels = scores["label"].to_numpy(dtype=int)
        return labelled_threshold(labels, scores["score"].to_numpy(), calibration.rule, calibration.value)
    if calibration.rule == "quantile":
        return quantile_threshold(normal, calibration.value)
    return rate_threshold(normal, calibration.value)
