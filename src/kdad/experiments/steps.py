"""The one road from images to a measured detector, a step a function: nodes, cases and `kdad.fit` walk it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kdad.compute import Compute, DeviceName, choose_compute
from kdad.detectors import evaluation
from kdad.detectors.detector import Detector, FitResult, TrainContext
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.checks import check_images
from kdad.images.registry import open_image_set
from kdad.images.splits import Split, split_set, table_of
from kdad.metrics.ground_truth import GroundTruth, read_ground_truth
from kdad.metrics.measure import PixelCurves, measure_categories, numbers_of
from kdad.metrics.measure import measure as measure_maps
from kdad.parameters.dataset import DatasetParameters
from kdad.scoring.parameters import MeasuringParameters
from kdad.scoring.smoothing import lower_ignored, smooth_all
from kdad.scoring.threshold import Threshold
from kdad.storage.content_store import ContentStore, Stores
from kdad.storage.provenance import code_version


@dataclass(frozen=True)
class RunContext:
    """What all steps of a run share: the machine, the stores of finished work, and how everything is measured.

    `seed` is the run's, by which images are held out. With `shares_classes` the classes of a labelled set share what
    frozen networks gave.
    """

    compute: Compute
    stores: Stores
    measuring: MeasuringParameters
    seed: int
    sheet_rows: int = 1
    shares_classes: bool = False

    def train_context(self, seed: int | None = None) -> TrainContext:
        """Return where a detector of this seed is made."""
        own = self.seed if seed is None else seed
        return TrainContext(self.compute, own, ContentStore(self.stores.models), self.seed)

    @property
    def cases(self) -> ContentStore:
        """The store of raw maps and of finished cases."""
        return ContentStore(self.stores.cases)


def prepare_frozen(
    detector: type[Detector], settings: SystemSettings, feature_set: FeatureSet, train_context: TrainContext
) -> tuple[FeatureSet, dict[str, NetworkReference]]:
    """Check the inputs, then load the frozen networks, or train them where they have to be, and name them.

    Returns the images as the system takes them. Raises `InputError` for what cannot be used, before anything is
    computed.
    """
    feature_set = detector.prepare_images(settings, feature_set, train_context.split_seed)
    detector.check_inputs(settings, feature_set)
    return feature_set, detector.frozen_networks(settings, feature_set, train_context)


def extract_features(
    detector: type[Detector],
    settings: SystemSettings,
    feature_set: FeatureSet,
    frozen: dict[str, NetworkReference],
    context: RunContext,
) -> FeatureSet:
    """Run the frozen networks once over every image, or open what they gave before."""
    store = ContentStore(context.stores.features)
    feature_set = evaluation.extract_features(
        detector, settings, feature_set, frozen, context.compute, store, context.shares_classes
    )
    detector.check(settings, feature_set)
    return feature_set


def fit_detector(
    detector: type[Detector],
    settings: SystemSettings,
    feature_set: FeatureSet,
    frozen: dict[str, NetworkReference],
    train_context: TrainContext,
) -> tuple[Detector, FitResult]:
    """Train the learnt half on normal images, or find it trained."""
    made = detector(settings, frozen, train_context.compute)
    made.preparation = feature_set.images.preparation
    fitting = made.fit(feature_set, train_context)
    made.record = record_of(feature_set, train_context.seed)
    return made, fitting


def smooth_maps(made: Detector, feature_set: FeatureSet, raw_maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Filter each method's maps as its parameters say; ignored pixels have the lowest value of the others."""
    named = {name: made.image_score.of if name == evaluation.OF_CATEGORY else name for name in raw_maps}
    smoothed = {name: smooth_all(raw_maps[name], made.smoothing(named[name]), made.region) for name in raw_maps}
    scored = feature_set.split.scored
    for place, row in enumerate(scored):
        ignored = feature_set.images.ignored(int(row))
        for stack in smoothed.values():
            at = place - (len(scored) - len(stack))  # a costly method's are of test images alone, which come last
            if at >= 0:
                lower_ignored(torch.from_numpy(stack[at : at + 1]), [ignored])
    return smoothed


def decide(
    made: Detector,
    split: Split,
    raw_scores: pd.DataFrame,
    anomaly_maps: dict[str, np.ndarray],
    measuring: MeasuringParameters,
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold on normal validation scores; decide on every scored image.

    The scores table has a row an image: id, label, kind, split, score, raw scores, threshold, decision (1 = anomalous).
    """
    return evaluation.threshold_scores(
        made, split, raw_scores, anomaly_maps, measuring.threshold_quantile, measuring.group_score
    )


def measure(
    made: Detector,
    split: Split,
    scores: pd.DataFrame,
    raw_maps: dict[str, np.ndarray],
    anomaly_maps: dict[str, np.ndarray],
    truth: GroundTruth,
    measuring: MeasuringParameters,
) -> tuple[dict[str, Any], dict[str, PixelCurves]]:
    """Measure how the test images' scores rank, how the threshold decides, and how each method's maps localise.

    Returns the metrics, and by method the curves behind those of pixels.
    """
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    maps = evaluation.maps_to_measure(made, split, raw_maps, anomaly_maps)
    measured, curves = measure_maps(test, maps, truth, measuring)
    own = evaluation.thresholds_by_category(scores, measuring.threshold_quantile)
    cuts = {name: calibration.threshold.value for name, calibration in own.items()}
    if own:
        by_own = test.assign(score=evaluation.own_scores(test))
        measured["categories"] = measure_categories(by_own, maps, truth, measuring, cuts)
    return measured, curves


def calibrate(
    made: Detector,
    feature_set: FeatureSet,
    scores: pd.DataFrame,
    threshold: Threshold,
    anomaly_maps: dict[str, np.ndarray],
    measured: dict[str, Any],
    measuring: MeasuringParameters,
) -> Detector:
    """Give a detector its thresholds, the normal scores that others are ranked among, and its metrics."""
    evaluation.set_pixel_threshold(made, feature_set, anomaly_maps, measuring.threshold_quantile, measuring.min_area)
    made.record = made.record | {"metrics": numbers_of(measured)}
    return evaluation.set_threshold(made, scores, threshold, anomaly_maps)


def fit_folder(
    system: str, settings: SystemSettings, dataset: DatasetParameters, seed: int, device: DeviceName, stores: Stores
) -> Detector:
    """Walk the whole road for a folder of images; return the detector, with its threshold and its metrics.

    Raises `InputError` for images or settings that cannot be used, before anything is trained.
    """
    images, detector = open_image_set(dataset, seed, ContentStore(stores.features)), SYSTEMS[system].detector
    check_images(images)
    split = Split(table_of(images, split_set(images.samples, dataset, seed), dataset.is_united))
    context = RunContext(choose_compute(device), stores, MeasuringParameters(), seed)
    feature_set, frozen = prepare_frozen(detector, settings, FeatureSet(images, split, {}), context.train_context())
    feature_set = extract_features(detector, settings, feature_set, frozen, context)
    made, _ = fit_detector(detector, settings, feature_set, frozen, context.train_context())
    raw = evaluation.map_images(made, feature_set, made.methods, context.cases)
    smoothed = smooth_maps(made, feature_set, raw.stacks)
    scores, threshold = decide(made, feature_set.split, raw.scores, smoothed, context.measuring)
    truth = read_ground_truth(feature_set.split, feature_set.images, context.measuring.resolution)
    measured, _ = measure(made, feature_set.split, scores, raw.stacks, smoothed, truth, context.measuring)
    evaluation.calibrate_float32(made, feature_set, context.measuring.threshold_quantile)
    return calibrate(made, feature_set, scores, threshold, smoothed, measured, context.measuring)


def record_of(feature_set: FeatureSet, seed: int) -> dict[str, Any]:
    """Return what a detector remembers of how it was made: data, seed, commit, date; metrics come later.

    What was `seen` are digests of the files that it learns from, or sets its threshold on.
    """
    rows = [*feature_set.split.rows("train"), *feature_set.split.rows("validation")]
    seen = {digest for row in rows if (digest := feature_set.images.file_digest(int(row))) is not None}
    return {
        "dataset": feature_set.images.name,
        "category": feature_set.images.category,
        "root": feature_set.images.root,
        "training_images": len(feature_set.split.rows("train")),
        "validation_images": len(feature_set.split.rows("validation")),
        "images": feature_set.split.images_digest,
        "test_images": feature_set.split.test_digest,
        "seed": seed,
        "commit": code_version(Path.cwd()),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": {},
        "seen": " ".join(sorted(seen)),
    }
