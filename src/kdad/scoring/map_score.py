"""One number of a map."""

import numpy as np

from kdad.scoring.parameters import ScoreRule


def map_scores(maps: np.ndarray, rule: ScoreRule, top_fraction: float) -> np.ndarray:
    """Return `(N,)`: each map's maximum (``map_maximum``) or the mean of its highest share `top_fraction`."""
    if rule == "map_maximum":
        return np.array([anomaly_map.max() for anomaly_map in maps])
    count = max(round(top_fraction * maps[0].size), 1)
    return np.array([np.partition(anomaly_map, -count, axis=None)[-count:].mean() for anomaly_map in maps])
