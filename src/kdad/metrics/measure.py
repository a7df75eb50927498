"""The one measurement of scores and maps, whatever system made them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdad.metrics.ground_truth import GroundTruth
from kdad.metrics.localisation import PixelCurves, measure_pixels, undefined_metrics
from kdad.metrics.names import PIXEL_METRICS
from kdad.metrics.ranking import detection_metrics
from kdad.scoring.parameters import MeasuringParameters
from kdad.seeding import numpy_generator

#: Of the bootstrap: the interval of the same scores is the same, whichever run asks.
_BOOTSTRAP_SEED = 0
#: What is said in words, or None.
_WORDS = ("localisation_left_out", "metrics_left_out", "localisation_resolution")


@dataclass(frozen=True)
class MapSet:
    """Maps of the test images by one method, `(N, H, W)` smoothed and raw, and the Gaussian's sigma in pixels."""

    smoothed: np.ndarray
    raw: np.ndarray
    gaussian_sigma: float


def measure(
    test: pd.DataFrame, maps: dict[str, MapSet], truth: GroundTruth, measuring: MeasuringParameters
) -> tuple[dict[str, Any], dict[str, PixelCurves]]:
    """Return how test scores rank, how the threshold decides and how maps localise; and curves of each method's pixels.

    `test` has a row a test image (label, score, decision). Pixel metrics on top are those of the first method; None
    without masks, and ``localisation_left_out`` says why (then there are no curves); of single ones
    ``metrics_left_out`` does.
    """
    localisation: dict[str, dict[str, float | None]] = {}
    curves: dict[str, PixelCurves] = {}
    at = truth.positions
    for method, found in maps.items():
        if truth.reason:
            localisation[method] = dict.fromkeys(PIXEL_METRICS)
            continue
        localisation[method], curves[method] = measure_pixels(
            truth, found.smoothed[at], found.raw[at], found.gaussian_sigma, measuring.max_fpr
        )
    first = next(iter(localisation.values()), dict.fromkeys(PIXEL_METRICS))
    undefined = undefined_metrics(truth) if maps and truth.reason is None else {}
    measured = {
        **measure_detection(test, measuring),
        **first,
        "localisation": localisation,
        "localisation_left_out": truth.reason if maps else "the system makes no maps",
        "metrics_left_out": "; ".join(f"{name}: {why}" for name, why in undefined.items()) or None,
        "localisation_resolution": truth.resolution if maps and truth.reason is None else None,
        "anomalous_images_without_mask": truth.unmasked,
        "anomalous_images_with_empty_mask": truth.empty,
    }
    return measured, curves


def numbers_of(measured: dict[str, Any]) -> dict[str, float | int | None]:
    """Return what `measure` found that is a number; None where it is undefined."""
    numbers = {name: value for name, value in measured.items() if isinstance(value, int | float | None)}
    for words in _WORDS:
        numbers.pop(words, None)
    return numbers


def measure_detection(test: pd.DataFrame, measuring: MeasuringParameters) -> dict[str, float | int | None]:
    """Return ranking metrics with their interval, the rates of the decisions, and how many images there are."""
    labels, decisions = test["label"].to_numpy(), test["decision"].to_numpy()
    generator = numpy_generator(_BOOTSTRAP_SEED, "bootstrap")
    found = detection_metrics(labels, test["score"].to_numpy(), measuring.bootstrap_resamples, generator)
    return {
        **found,
        "false_positive_rate": _share(decisions[labels == 0]),
        "true_positive_rate": _share(decisions[labels == 1]),
        "test_normal": int((labels == 0).sum()),
        "test_anomalous": int((labels == 1).sum()),
    }


def _share(decisions: np.ndarray) -> float | None:
    return float(decisions.mean()) if len(decisions) else None
