"""The localisation protocol behind MKD's published pixel AUROC (Salehi et al. 2021)."""

import numpy as np

from kdad.metrics.pixel_ranking import pixel_auroc, rank_pixels
from kdad.metrics.pixel_values import check_finite, check_shapes
from kdad.scoring.smoothing import gaussian_filter, grey_opening


def mkd_protocol_auroc(masks: np.ndarray, raw_maps: np.ndarray, gaussian_sigma: float, opening_size: int = 3) -> float:
    """Return pixel AUROC over anomalous images alone, each map clipped, scaled to [0, 1], filtered and opened.

    `masks` and `raw_maps` (before any filter) are `(N, H, W)`; each map is clipped at its own 99th percentile.
    `gaussian_sigma` is in pixels, `opening_size` the diameter of the elliptic element; 0 leaves a step out. The
    published code opens the maps thresholded at 1,000 values; a flat grey opening commutes with thresholds, so one
    opening and the exact ROC curve give the limit of that. Raises `InputError` as `rank_pixels` does.
    """
    check_shapes(masks, raw_maps)
    anomalous = np.flatnonzero(masks.any(axis=(1, 2)))
    scaled = np.empty((anomalous.size, *raw_maps.shape[1:]), dtype=np.float32)
    for position, row in enumerate(anomalous):
        check_finite(raw_maps[row], row)
        scaled[position] = grey_opening(gaussian_filter(_scale(raw_maps[row])[None], gaussian_sigma), opening_size)[0]
    return pixel_auroc(rank_pixels(masks[anomalous], scaled))


def _scale(anomaly_map: np.ndarray) -> np.ndarray:
    """Clip a map `(H, W)` at its 99th percentile and stretch it to [0, 1]; a constant map becomes 0."""
    low, high = anomaly_map.min(), np.percentile(anomaly_map, 99)
    if not high > low:
        return np.zeros_like(anomaly_map, dtype=np.float32)
    return ((np.minimum(anomaly_map, high) - low) / (high - low)).astype(np.float32)
