"""Every localisation metric of one method's maps."""

import numpy as np

from kdad.metrics.mkd_protocol import mkd_protocol_auroc
from kdad.metrics.pixel_ranking import pixel_ap, pixel_auroc
from kdad.metrics.region_overlap import pro_auc

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pro_auc", "pixel_auroc_mkd_protocol")


def localisation_metrics(
    masks: np.ndarray, maps: np.ndarray, raw_maps: np.ndarray, gaussian_sigma: float, max_fpr: float
) -> dict[str, float]:
    """Return `PIXEL_METRICS` of `maps` against `masks`, all `(N, H, W)`.

    The MKD protocol has filters of its own, so it starts from `raw_maps` and takes the method's `gaussian_sigma`.
    """
    values = (
        pixel_auroc(masks, maps),
        pixel_ap(masks, maps),
        pro_auc(masks, maps, max_fpr),
        mkd_protocol_auroc(masks, raw_maps, gaussian_sigma),
    )
    return dict(zip(PIXEL_METRICS, values, strict=True))
