"""The detection score: one number an image."""

import numpy as np

from kdad.parameters.scoring import DetectionParameters


def image_scores(total_loss: np.ndarray, maps: dict[str, np.ndarray], parameters: DetectionParameters) -> np.ndarray:
    """Return `(N,)` scores: L_total, or the maximum or the mean of the highest values of the forward map."""
    if parameters.score == "total_loss":
        return total_loss
    stack = maps["discrepancy"]
    if parameters.score == "map_maximum":
        return np.array([anomaly_map.max() for anomaly_map in stack])
    count = max(round(parameters.top_fraction * stack[0].size), 1)
    return np.array([np.partition(anomaly_map, -count, axis=None)[-count:].mean() for anomaly_map in stack])
