"""Every localisation metric of one method's maps, and the curves behind them."""

from dataclasses import dataclass

import numpy as np

from kdad.metrics.ground_truth import GroundTruth
from kdad.metrics.mkd_protocol import mkd_protocol_auroc
from kdad.metrics.names import PIXEL_METRICS
from kdad.metrics.pixel_ranking import pixel_ap, pixel_auroc, pixel_roc, rank_pixels
from kdad.metrics.region_overlap import ProCurve, pro_curve
from kdad.metrics.upsampled import measured_pair

#: Into which `PixelCurves.quantiles` divide pixels.
BINS = 1024

_PROTOCOL = "pixel_auroc_mkd_protocol"


@dataclass(frozen=True)
class PixelCurves:
    """Thinned curves over all pixels of a method's maps: ROC as false and true positive rates, and PRO.

    `quantiles` divide all pixels by value into 1,024 parts of the same number.
    """

    roc: tuple[np.ndarray, np.ndarray]
    pro: ProCurve
    quantiles: np.ndarray


def measure_pixels(
    truth: GroundTruth, maps: np.ndarray, raw_maps: np.ndarray, gaussian_sigma: float, max_fpr: float
) -> tuple[dict[str, float | None], PixelCurves]:
    """Return `PIXEL_METRICS` of `maps` `(N, H, W)` against the masks, None alone for what is undefined, and curves.

    The MKD protocol has filters of its own, so it starts from `raw_maps` and takes the method's `gaussian_sigma`; it
    is of the model's size, as published.
    """
    ranking = rank_pixels(*measured_pair(truth, maps))
    overlap = pro_curve(ranking, max_fpr)
    values = (
        pixel_auroc(ranking),
        pixel_ap(ranking),
        overlap.area,
        None if undefined_metrics(truth) else mkd_protocol_auroc(truth.masks, raw_maps, gaussian_sigma),
    )
    edges = ranking.quantiles(np.linspace(0, 1, BINS + 1)[1:-1])
    curves = PixelCurves(pixel_roc(ranking), overlap.thinned(), edges)
    return dict(zip(PIXEL_METRICS, values, strict=True)), curves


def undefined_metrics(truth: GroundTruth) -> dict[str, str]:
    """Return which of `PIXEL_METRICS` cannot be measured where others can, and why."""
    anomalous = truth.masks[truth.masks.any(axis=(1, 2))]
    if not len(anomalous):
        height, width = truth.masks.shape[1:]
        return {_PROTOCOL: f"no mask is left at {height} x {width} pixels"}
    if anomalous.all():
        return {_PROTOCOL: "it is of masked images alone, and their masks leave no normal pixel"}
    return {}
