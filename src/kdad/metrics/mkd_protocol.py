"""The localisation protocol behind MKD's published pixel AUROC (Salehi et al. 2021)."""

import numpy as np

from kdad.metrics.pixel_ranking import pixel_auroc
from kdad.metrics.pixel_values import check_finite, check_shapes
from kdad.scoring.smoothing import grey_opening


def mkd_protocol_auroc(masks: np.ndarray, maps: np.ndarray, opening_size: int = 3) -> float:
    """Return pixel AUROC over anomalous images alone, each map scaled to [0, 1] by itself and opened.

    `masks` and `maps` are `(N, H, W)`; `opening_size` is the elliptic element's diameter, 0 for maps opened already.
    The published code opens the maps thresholded at 1,000 values; a flat grey opening commutes with thresholds, so one
    opening and the exact ROC curve give the limit of that. Raises `InputError` as `pixel_auroc` does.
    """
    check_shapes(masks, maps)
    anomalous = np.flatnonzero(masks.any(axis=(1, 2)))
    scaled = np.empty((anomalous.size, *maps.shape[1:]), dtype=np.float32)
    for position, row in enumerate(anomalous):
        check_finite(maps[row], row)
        scaled[position] = grey_opening(_scale(maps[row])[None], opening_size)[0]
    return pixel_auroc(masks[anomalous], scaled)


def _scale(anomaly_map: np.ndarray) -> np.ndarray:
    """Clip a map `(H, W)` at its 99th percentile and stretch it to [0, 1]; a constant map becomes 0."""
    low, high = anomaly_map.min(), np.percentile(anomaly_map, 99)
    if not high > low:
        return np.zeros_like(anomaly_map, dtype=np.float32)
    return ((np.minimum(anomaly_map, high) - low) / (high - low)).astype(np.float32)
