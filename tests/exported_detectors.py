"""A small detector of torch alone, kept in a folder, and its images: for tests of what it is exported to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.detector import Detector, TrainContext
from kdad.detectors.evaluation import extract_features
from kdad.detectors.exported.detector import write_exported
from kdad.detectors.exported.facts import ExportedFacts
from kdad.detectors.exported.writing import VerificationImages, export_detector, of_run
from kdad.detectors.opening import open_detector
from kdad.detectors.predictor import colour_limits_of
from kdad.detectors.stfpm.detector import StfpmDetector
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.features.extraction import FeatureSet
from kdad.scoring.threshold import quantile_threshold
from kdad.storage.content_store import ContentStore
from memory_images import PARTS, MemoryImages, split_of
from projects import once_a_session

QUANTILE = 0.5


def waves() -> MemoryImages:
    """Return 36 images of 32 x 48 pixels: 8 are held out, 12 tested."""
    return MemoryImages((32, 48), parts=PARTS * 2)


def wave_images() -> VerificationImages:
    """Return those of `waves` that an export is checked on."""
    images = waves()
    return of_run(images, split_of(images))


def made_detector(factory: pytest.TempPathFactory) -> Detector:
    """Return the detector of `make_detector`, which one worker of a session makes for all."""
    torch.set_num_threads(1)
    return open_detector(once_a_session(factory, "detector to export", make_detector) / "detector", "cpu")


def make_detector(folder: Path) -> Detector:
    """Train STFPM on `waves` for a few epochs, and keep it in `folder`, with a threshold and a record."""
    images = waves()
    split = split_of(images)
    training = {"epochs": 3, "batch_size": 4, "optimiser": "sgd", "learning_rate": 0.1}
    source = {"name": "timm:test_resnet", "weights": "random"}
    own = {"source": source, "points": "first 3", "training": training, "smoothing": {"gaussian_sigma": 1.5}}
    settings = StfpmSettings.model_validate({"stfpm": own | {"normalisation": "per_pixel", "score": "map_top_mean"}})
    train_context = TrainContext(Compute(torch.device("cpu"), torch.float32), 0, ContentStore(folder / "models"))
    feature_set = FeatureSet(images, split, {})
    references = StfpmDetector.frozen_networks(settings, feature_set, train_context)
    feature_set = extract_features(
        StfpmDetector, settings, feature_set, references, train_context.compute, ContentStore(folder / "features")
    )
    detector = StfpmDetector(settings, references, train_context.compute)
    detector.fit(feature_set, train_context)
    rows = split.rows("validation")
    scores, maps = detector.eval().score_and_show(feature_set.batch(rows))
    detector.calibrated(quantile_threshold(scores, QUANTILE), scores, colour_limits_of(maps))
    detector.record = {
        "dataset": "memory",
        "category": "waves",
        "root": None,
        "images": split.images_digest,
        "validation_images": len(rows),
        "seed": 0,
        "commit": "0123abc",
        "metrics": {},
    }
    return open_detector(detector.save(folder / "detector"), "cpu")


def export(detector: Detector, folder: Path, runtime: str = "onnxruntime", precision: str = "float32") -> ExportedFacts:
    """Export a detector to `folder`, checked on the images that it was made of."""
    facts, model = export_detector(detector, "float32", wave_images(), runtime, precision)
    write_exported(facts, model, folder)
    return facts


def coloured_noise(*size: int) -> np.ndarray:
    """Return uint8 images of a size `(..., H, W, 3)`."""
    return np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)
