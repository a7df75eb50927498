"""A small detector in its folder, for tests of what is done with a kept one."""

from pathlib import Path

import numpy as np
import torch

from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.features.extraction import FeatureSet, obtain_features
from kdad.features.network import FrozenNetwork
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of


def fit_detector(folder: Path) -> MkdDetector:
    """Return an MKD detector of images of 32 x 48 pixels, by a source with random weights; `folder` is for its stores.

    It has no threshold.
    """
    images = MemoryImages()
    return fit_to(FeatureSet(images, split_of(images), {}), folder)[0]


def fit_to(feature_set: FeatureSet, folder: Path) -> tuple[MkdDetector, FeatureSet]:
    """Return such a detector of other images, and these with what the source gave for them."""
    chosen = MkdSettings(
        source={"name": "timm:test_resnet", "weights": "random"},
        features={},
        cloner={"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 1}},
        scoring={"localisation": ["discrepancy"], "smoothing": {"discrepancy": {}}},
    )
    train_context = TrainContext(Compute(torch.device("cpu"), torch.float32), 0, ContentStore(folder / "models"))
    references = MkdDetector.frozen_networks(chosen, feature_set, train_context)
    network = FrozenNetwork(references["source"], train_context.compute)
    options = MkdDetector.extraction_options(chosen, feature_set.images.size)
    store = ContentStore(folder / "features")
    cache = obtain_features(store, network, feature_set.images, feature_set.split, options)
    feature_set = FeatureSet(feature_set.images, feature_set.split, {"source": cache})
    detector = MkdDetector(chosen, references, train_context.compute)
    detector.fit(feature_set, train_context)
    return detector, feature_set


def keep_detector(folder: Path) -> Path:
    """Write such a detector with a threshold and a record to below `folder`; return its own folder."""
    detector = fit_detector(folder)
    scores = np.linspace(0, 1, 30)
    detector.calibrated(quantile_threshold(scores, 0.9), scores, (0.0, 1.0))
    detector.record = {"dataset": "memory", "category": "waves", "images": "abc", "commit": "c0ffee", "seed": 0}
    detector.record |= {"made": "today", "metrics": {"image_auroc": 0.75, "root": None}}
    return detector.save(folder / "detector")
