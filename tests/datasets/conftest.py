"""A detector that was fitted on a few images in memory."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.detector import Detector, TrainContext
from kdad.detectors.evaluation import extract_features
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of

FLOAT32 = Compute(torch.device("cpu"), torch.float32)
SETTINGS = BaselineSettings(
    source={"name": "timm:test_resnet", "weights": "random"},
    features={},
    baselines={"methods": {"nearest": {"detector": "knn", "representation": "pixels"}}},
)


class Made(NamedTuple):
    """A calibrated detector, its frozen networks, and the images with what these gave for them."""

    detector: Detector
    references: dict[str, NetworkReference]
    feature_set: FeatureSet


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A baseline that sees pixels alone."""
    place, images = tmp_path_factory.mktemp("made"), MemoryImages()
    train_context = TrainContext(FLOAT32, 0, ContentStore(place / "models"))
    feature_set = FeatureSet(images, split_of(images), {})
    references = BaselineDetector.frozen_networks(SETTINGS, feature_set, train_context)
    feature_set = extract_features(
        BaselineDetector, SETTINGS, feature_set, references, FLOAT32, ContentStore(place / "features")
    )
    detector = BaselineDetector(SETTINGS, references, FLOAT32)
    detector.fit(feature_set, train_context)
    detector.record = {"dataset": "memory", "seed": 0}
    detector.calibrated(quantile_threshold(np.arange(9.0), 0.5), np.arange(9.0)).eval()
    return Made(detector, references, feature_set)


@pytest.fixture
def detector(made: Made) -> Detector:
    """That detector."""
    return made.detector


@pytest.fixture
def kept(detector: Detector, tmp_path: Path) -> Path:
    """The folder of that detector."""
    return detector.save(tmp_path / "kept/detector")
