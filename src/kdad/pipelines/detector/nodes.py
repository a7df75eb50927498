"""Nodes that make a detector of any system, and map known images with it."""

import time
from typing import Any

import numpy as np
import pandas as pd

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector
from kdad.detectors.evaluation import calibrate_float32
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.experiments import steps
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.compute import ComputeParameters
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.smoothing import smooth_all
from kdad.scoring.threshold import Threshold
from kdad.storage.content_store import Stores

#: Of a loss history; of a detector that learns without epochs it has no row.
_HISTORY = ["epoch", "split", "term", "value"]


def prepare_frozen(
    system: str,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
    **blocks: Any,
) -> dict[str, NetworkReference]:
    """Check the inputs, then load the frozen networks, or train them where they have to be, and name them."""
    detector, settings = _bound(system, blocks)
    train_context = _context(stores, compute, seed).train_context()
    return steps.prepare_frozen(detector, settings, FeatureSet(image_set, Split(split_table), {}), train_context)[1]


def compute_features(
    system: str,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    frozen: dict[str, NetworkReference],
    stores: Stores,
    compute: ComputeParameters,
    **blocks: Any,
) -> tuple[dict[str, FeatureCache], dict[str, Any]]:
    """Run the frozen networks once over every image, or open what they gave before; return it and what it cost."""
    detector, settings = _bound(system, blocks)
    started, context = time.perf_counter(), _context(stores, compute)
    feature_set = steps.extract_features(
        detector, settings, FeatureSet(image_set, Split(split_table), {}), frozen, context
    )
    reused = all(cache.reused for cache in feature_set.features.values())
    cost = {"seconds": time.perf_counter() - started, "images": len(split_table), "reused": reused}
    return feature_set.features, cost | context.compute.describe()


def fit_detector(
    system: str,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    frozen: dict[str, NetworkReference],
    feature_caches: dict[str, FeatureCache],
    reported: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
    **blocks: Any,
) -> tuple[Detector, pd.DataFrame, dict[str, Any]]:
    """Train the learnt half on normal images, or find it trained; return the detector, its loss history and cost.

    It takes what was `reported` of the images so that their warnings come first.
    """
    detector, settings = _bound(system, blocks)
    feature_set = FeatureSet(image_set, Split(split_table), feature_caches)
    made, fitting = steps.fit_detector(
        detector, settings, feature_set, frozen, _context(stores, compute, seed).train_context()
    )
    history = pd.DataFrame(columns=_HISTORY) if fitting.history is None else fitting.history
    history.attrs["network"] = fitting.network
    return made, history, {"seconds": fitting.seconds, "reused": fitting.reused, **made.cost()}


def map_images(
    detector: Detector,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    feature_caches: dict[str, FeatureCache],
    stores: Stores,
    compute: ComputeParameters,
) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[str, float]]:
    """Score normal validation and test images, and map them by every method; return what each took in seconds.

    Maps of costly methods are of test images alone.
    """
    feature_set = FeatureSet(image_set, Split(split_table), feature_caches)
    raw = steps.map_images(detector, feature_set, detector.methods, _context(stores, compute))
    return raw.scores, raw.stacks, raw.seconds


def smooth_maps(detector: Detector, raw_maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Filter each method's maps as its parameters say: peaks clipped, a Gaussian, a grey opening."""
    return {method: smooth_all(maps, detector.smoothing(method)) for method, maps in raw_maps.items()}


def calibrate_threshold(
    detector: Detector,
    split_table: pd.DataFrame,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    measuring: MeasuringParameters,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold on normal validation scores; decide on every scored image.

    The scores table has a row an image: id, label, kind, split, score, raw scores, threshold, decision (1 = anomalous).
    """
    return steps.decide(detector, Split(split_table), raw_scores, anomaly_maps, measuring)


def keep_detector(
    fitted: Detector,
    scores: pd.DataFrame,
    threshold: Threshold,
    anomaly_maps: dict[str, np.ndarray],
    metrics: dict[str, Any],
    image_set: ImageSet,
    split_table: pd.DataFrame,
    feature_caches: dict[str, FeatureCache],
    measuring: MeasuringParameters,
) -> Detector:
    """Give the fitted detector its thresholds, the normal scores that others are ranked among, and its metrics."""
    feature_set = FeatureSet(image_set, Split(split_table), feature_caches)
    calibrate_float32(fitted, feature_set, measuring.threshold_quantile)
    return steps.calibrate(fitted, scores, threshold, anomaly_maps, metrics)


def _bound(system: str, blocks: dict[str, Any]) -> tuple[type[Detector], SystemSettings]:
    """Return a system's detector, and its settings of its parameter blocks."""
    return SYSTEMS[system].detector, SYSTEMS[system].Settings.model_validate(blocks)


def _context(stores: Stores, compute: ComputeParameters, seed: int = 0) -> steps.RunContext:
    return steps.RunContext(prepare_compute(compute), stores, MeasuringParameters(), seed)
