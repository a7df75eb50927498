"""The detection score: one number an image."""

import numpy as np

from kdad.parameters.scoring import DetectionParameters


def image_scores(total_loss: np.ndarray, maps: dict[str, np.ndarray], parameters: DetectionParameters) -> np.ndarray:
    """Return `(N,)` scores: L_total, or the maximum or the mean of the highest values of the forward map."""
    if parameters.score == "total_loss":
        return total_loss
    return map_scores(maps["discrepancy"], parameters.score, parameters.top_fraction)


def map_scores(maps: np.ndarray, score: str, top_fraction: float) -> np.ndarray:
    """Return `(N,)`: each map's maximum (``map_maximum``) or the mean of its highest share `top_fraction`."""
    if score == "map_maximum":
        return np.array([anomaly_map.max() for anomaly_map in maps])
    count = max(round(top_fraction * maps[0].size), 1)
    return np.array([np.partition(anomaly_map, -count, axis=None)[-count:].mean() for anomaly_map in maps])
