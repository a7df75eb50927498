"""From raw scores and anomaly maps of a known set to decisions, a calibrated detector, and maps to be measured."""

import numpy as np
import pandas as pd
import torch

from kdad.detectors.detector import Detector
from kdad.detectors.prediction import colour_limits_of
from kdad.features.extraction import FeatureSet
from kdad.images.splits import Split
from kdad.metrics.measure import MapSet
from kdad.scoring.decisions import decide, validation_scores
from kdad.scoring.map_stack import chunks_of
from kdad.scoring.threshold import Calibration, Threshold, quantile_threshold

_FLOAT32_BATCH = 8


def threshold_scores(
    detector: Detector,
    split: Split,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    quantile: float,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold at a `quantile` of normal validation scores; decide on every scored image.

    The table has a row an image: id, label, kind, split, score, raw scores, threshold, decision (1 = anomalous).
    """
    found = score_images(detector, raw_scores, anomaly_maps)
    scores, threshold = decide(split, raw_scores["row"].to_numpy(), found, quantile)
    for name, values in _by_name(raw_scores).items():
        if name not in scores:
            scores.insert(5, name, values)
    return scores, threshold


def score_images(detector: Detector, raw_scores: pd.DataFrame, anomaly_maps: dict[str, np.ndarray]) -> np.ndarray:
    """Return the images' scores `(N,)`: of the raw ones (a column each, beside `row`), or of smoothed maps."""
    rule = detector.image_score
    if rule.rule == "raw":
        return raw_scores[rule.of].to_numpy()
    return np.concatenate([rule.of_maps(chunk).numpy() for _, chunk in chunks_of(anomaly_maps[rule.of])])


def _by_name(raw_scores: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: raw_scores[name].to_numpy() for name in raw_scores if name != "row"}


def set_threshold(
    detector: Detector,
    scores: pd.DataFrame,
    threshold: Threshold,
    anomaly_maps: dict[str, np.ndarray],
) -> Detector:
    """Give `detector` its threshold, the normal scores that others are ranked among, and the limits of its heat maps.

    Validation images come first in `anomaly_maps`.
    """
    validation = scores["split"] == "validation"
    limits = [colour_limits_of(anomaly_maps[method][: validation.sum()]) for method in detector.methods[:1]]
    return detector.calibrated(threshold, validation_scores(scores), *limits)


@torch.no_grad()
def calibrate_float32(detector: Detector, feature_set: FeatureSet, quantile: float) -> None:
    """Set the threshold that `detector` has in float32, where it computes in bfloat16: for machines that do not.

    The validation images pass the networks once more, out of what features keep. Their scores differ by more than what
    lies between them, so that a threshold of one format promises nothing in the other.
    """
    twin = detector.float32_twin()
    if twin is None:
        return
    rows = feature_set.split.rows("validation")
    batches = [rows[i : i + _FLOAT32_BATCH] for i in range(0, len(rows), _FLOAT32_BATCH)]
    scores = np.concatenate([twin.score_and_show(feature_set.batch(batch))[0] for batch in batches]).astype(np.float64)
    detector.in_float32 = Calibration.of(quantile_threshold(scores, quantile), scores)


def maps_to_measure(
    detector: Detector, split: Split, raw_maps: dict[str, np.ndarray], anomaly_maps: dict[str, np.ndarray]
) -> dict[str, MapSet]:
    """Return the test images' maps by each method that has some, in the detector's order, raw and smoothed."""
    return {
        method: MapSet(
            split.test_maps(anomaly_maps[method]),
            split.test_maps(raw_maps[method]),
            detector.smoothing(method).gaussian_sigma,
        )
        for method in detector.methods
        if method in anomaly_maps
    }
