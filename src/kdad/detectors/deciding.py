"""From raw scores and anomaly maps of a known set to decisions, a calibrated detector, and maps to be measured."""

import numpy as np
import pandas as pd

from kdad.detectors.detector import Detector
from kdad.detectors.judgement import heat_limits
from kdad.images.splits import Split
from kdad.metrics.measure import TestMaps
from kdad.scoring.decisions import decide, normal_scores
from kdad.scoring.threshold import Threshold


def decide_known(
    detector: Detector,
    split: Split,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    quantile: float,
    fold_scores: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold at a `quantile` of held-out normal scores, and of `fold_scores`; decide on every scored image.

    The table has a row an image: id, label, kind, split, score, raw scores, threshold, decision (1 = anomalous).
    """
    raw = {name: raw_scores[name].to_numpy() for name in raw_scores if name != "row"}
    found = detector.image_score.of_images(raw, anomaly_maps)
    scores, threshold = decide(split, raw_scores["row"].to_numpy(), found, quantile, fold_scores)
    for name, values in raw.items():
        if name not in scores:
            scores.insert(5, name, values)
    return scores, threshold


def calibrate_on(
    detector: Detector,
    scores: pd.DataFrame,
    threshold: Threshold,
    anomaly_maps: dict[str, np.ndarray],
    fold_scores: pd.DataFrame | None = None,
) -> Detector:
    """Give `detector` its threshold, the normal scores that others are ranked among, and the limits of its heat maps.

    Held-out images come first in `anomaly_maps`.
    """
    held_out = scores["split"] == "validation"
    limits = [heat_limits(anomaly_maps[method][: held_out.sum()]) for method in detector.methods[:1]]
    return detector.calibrated(threshold, normal_scores(scores, fold_scores), *limits)


def maps_to_measure(
    detector: Detector, split: Split, raw_maps: dict[str, np.ndarray], anomaly_maps: dict[str, np.ndarray]
) -> dict[str, TestMaps]:
    """Return the test images' maps by each method that has some, in the detector's order, raw and smoothed."""
    return {
        method: TestMaps(
            split.test_maps(anomaly_maps[method]),
            split.test_maps(raw_maps[method]),
            detector.smoothing(method).gaussian_sigma,
        )
        for method in detector.methods
        if method in anomaly_maps
    }
