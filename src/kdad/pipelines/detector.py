"""The steps that make a detector of any system, and map known images with it; its data sets are named after it."""

import inspect
import time
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline

from kdad.compute import prepare_compute
from kdad.detectors import evaluation
from kdad.detectors.detector import Detector
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.experiments import steps
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.blocks import ComputeParameters
from kdad.pipelines import BoxedNode, blocks, ingestion, made, own, reporting, shared
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.threshold import Threshold
from kdad.storage.content_store import Stores


def bind_first(function: Callable[..., Any], first: Any) -> Callable[..., Any]:
    """Return `function` with its first argument fixed; Kedro reads name, hints and arguments, Kedro-Viz the code."""

    @wraps(function)
    def bound(*arguments: Any, **named: Any) -> Any:
        return function(first, *arguments, **named)

    bound.__signature__ = inspect.signature(partial(function, first))  # type: ignore[attr-defined]
    return bound


#: Of a loss history; of a detector that learns without epochs it has no row.
_HISTORY = ["epoch", "split", "term", "value"]


def prepare_frozen(
    system: str,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
    **given: Any,
) -> dict[str, NetworkReference]:
    """Check the inputs, then load the frozen networks, or train them where they have to be, and name them."""
    detector, settings = _bound(system, given)
    train_context = _context(stores, compute, seed).train_context()
    return steps.prepare_frozen(detector, settings, FeatureSet(image_set, Split(split_table), {}), train_context)[1]


def compute_features(
    system: str,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    frozen: dict[str, NetworkReference],
    stores: Stores,
    compute: ComputeParameters,
    **given: Any,
) -> tuple[dict[str, FeatureCache], dict[str, Any]]:
    """Run the frozen networks once over every image, or open what they gave before; return it and what it cost."""
    detector, settings = _bound(system, given)
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
    **given: Any,
) -> tuple[Detector, pd.DataFrame, dict[str, Any]]:
    """Train the learnt half on normal images, or find it trained; return the detector, its loss history and cost.

    It takes what was `reported` of the images so that their warnings come first.
    """
    detector, settings = _bound(system, given)
    feature_set = FeatureSet(image_set, Split(split_table), feature_caches)
    fitted, fitting = steps.fit_detector(
        detector, settings, feature_set, frozen, _context(stores, compute, seed).train_context()
    )
    history = pd.DataFrame(columns=_HISTORY) if fitting.history is None else fitting.history
    history.attrs["network"] = fitting.network
    return fitted, history, {"seconds": fitting.seconds, "reused": fitting.reused, **fitted.cost()}


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
    raw = evaluation.map_images(detector, feature_set, detector.methods, _context(stores, compute).cases)
    return raw.scores, raw.stacks, raw.seconds


def smooth_maps(
    detector: Detector, image_set: ImageSet, split_table: pd.DataFrame, raw_maps: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Filter each method's maps as its parameters say: peaks clipped, a Gaussian, a grey opening."""
    return steps.smooth_maps(detector, FeatureSet(image_set, Split(split_table), {}), raw_maps)


def calibrate_threshold(
    detector: Detector,
    split_table: pd.DataFrame,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    measuring: MeasuringParameters,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold on normal validation scores; decide on every scored image (`steps.decide`)."""
    return steps.decide(detector, Split(split_table), raw_scores, anomaly_maps, measuring)


def _bound(system: str, given: dict[str, Any]) -> tuple[type[Detector], SystemSettings]:
    """Return a system's detector, and its settings of its parameter blocks."""
    return SYSTEMS[system].detector, SYSTEMS[system].Settings.model_validate(given)


def _context(stores: Stores, compute: ComputeParameters, seed: int = 0) -> steps.RunContext:
    return steps.RunContext(prepare_compute(compute), stores, MeasuringParameters(), seed)


_IMAGES = shared("image_set", "split_table")
_MACHINE = shared("stores") | blocks("compute")


def create_frozen(system: str) -> Pipeline:
    """Check the inputs and make the frozen networks ready."""
    inputs = _IMAGES | _MACHINE | blocks("seed")
    return Pipeline([_settings_node("features", prepare_frozen, system, inputs, f"{system}.frozen")])


def create_features(system: str) -> Pipeline:
    """Run the frozen networks over every image, once."""
    inputs = _IMAGES | _MACHINE | own(system, "frozen")
    outputs = made(system, "features", "feature_cost")
    return Pipeline([_settings_node("features", compute_features, system, inputs, outputs)])


def create_fitting(system: str) -> Pipeline:
    """Train the learnt half on normal images, after the data report has warned of them."""
    inputs = _IMAGES | _MACHINE | blocks("seed") | own(system, "frozen")
    inputs |= {"reported": "data_report_table", "feature_caches": f"{system}.features"}
    outputs = made(system, "fitted", "loss_history", "fitting_cost")
    return Pipeline([_settings_node("fit", fit_detector, system, inputs, outputs)])


def create_scoring(system: str) -> Pipeline:
    """Map images, smooth the maps, calibrate the threshold."""
    fitted = {"detector": f"{system}.fitted"}
    mapped = _IMAGES | _MACHINE | {"feature_caches": f"{system}.features"}
    scored = shared("split_table") | own(system, "raw_scores", "anomaly_maps") | blocks("measuring")
    steps_of_scoring = [
        (map_images, mapped, made(system, "raw_scores", "raw_maps", "mapping_cost")),
        (smooth_maps, _IMAGES | own(system, "raw_maps"), f"{system}.anomaly_maps"),
        (calibrate_threshold, scored, made(system, "scores", "threshold")),
    ]
    return Pipeline(
        [
            BoxedNode(
                function,
                fitted | inputs,
                outputs,
                name=f"{system}_{function.__name__}",
                tags=["inference"],
                namespace="score",
            )
            for function, inputs, outputs in steps_of_scoring
        ]
    )


def _settings_node(box: str, function, system: str, inputs: dict[str, str], outputs: str | list[str]) -> Node:
    return BoxedNode(
        bind_first(function, system),
        blocks(*SYSTEMS[system].Settings.model_fields) | inputs,
        outputs,
        name=f"{system}_{function.__name__}",
        tags=["training"],
        namespace=box,
    )


def create_system(name: str) -> Pipeline:
    """Return a system's pipeline."""
    return (
        ingestion.create_pipeline()
        + create_frozen(name)
        + create_features(name)
        + ingestion.create_report(name)
        + create_fitting(name)
        + create_scoring(name)
        + reporting.create_pipeline(name)
    )


def create_ingestion() -> Pipeline:
    """Return everything that is done with images before anything is trained on them; `mkd` says what is unusual."""
    images = (
        ingestion.create_pipeline() + create_frozen("mkd") + create_features("mkd") + ingestion.create_report("mkd")
    )
    return images + ingestion.create_patches()
