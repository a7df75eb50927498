"""Every localisation metric of one method's maps."""

import numpy as np

from kdad.metrics.ground_truth import GroundTruth
from kdad.metrics.mkd_protocol import mkd_protocol_auroc
from kdad.metrics.pixel_ranking import pixel_ap, pixel_auroc
from kdad.metrics.region_overlap import pro_auc
from kdad.metrics.upsampled import measured_pair

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pro_auc", "pixel_auroc_mkd_protocol")


_PROTOCOL = "pixel_auroc_mkd_protocol"


def localisation_metrics(
    truth: GroundTruth, maps: np.ndarray, raw_maps: np.ndarray, gaussian_sigma: float, max_fpr: float
) -> dict[str, float | None]:
    """Return `PIXEL_METRICS` of `maps` `(N, H, W)` against the masks; None alone for what is undefined.

    The MKD protocol has filters of its own, so it starts from `raw_maps` and takes the method's `gaussian_sigma`; it
    is of the model's size, as published.
    """
    masks, enlarged = measured_pair(truth, maps)
    values = (
        pixel_auroc(masks, enlarged),
        pixel_ap(masks, enlarged),
        pro_auc(masks, enlarged, max_fpr),
        None if undefined_metrics(truth) else mkd_protocol_auroc(truth.masks, raw_maps, gaussian_sigma),
    )
    return dict(zip(PIXEL_METRICS, values, strict=True))


def undefined_metrics(truth: GroundTruth) -> dict[str, str]:
    """Return which of `PIXEL_METRICS` cannot be measured where others can, and why."""
    anomalous = truth.masks[truth.masks.any(axis=(1, 2))]
    if not len(anomalous):
        height, width = truth.masks.shape[1:]
        return {_PROTOCOL: f"no mask is left at {height} x {width} pixels"}
    if anomalous.all():
        return {_PROTOCOL: "it is of masked images alone, and their masks leave no normal pixel"}
    return {}
