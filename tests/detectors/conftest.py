"""A few images in memory, and detectors of any system made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.detector import Detector, FitResult, TrainContext
from kdad.detectors.evaluation import extract_features
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.strict import StrictModel
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of

FLOAT32 = Compute(torch.device("cpu"), torch.float32)


class Prepared(NamedTuple):
    """A detector that has not learnt yet, and the images with what its frozen networks give for them."""

    detector: Detector
    feature_set: FeatureSet


class Fitted(NamedTuple):
    """A detector that has learnt, the images that it learnt from, and what fitting left."""

    detector: Detector
    feature_set: FeatureSet
    fitting: FitResult


@pytest.fixture
def images() -> MemoryImages:
    """Eighteen images of 32 x 48 pixels: 8 train, 4 are held out, 6 are tested, of which 3 have a defect."""
    return MemoryImages()


@pytest.fixture
def split(images: MemoryImages) -> Split:
    """The split of `images`."""
    return split_of(images)


@pytest.fixture
def train_context(tmp_path: Path) -> TrainContext:
    """A train_context in the test's folder, in float32, with seed 0."""
    return TrainContext(FLOAT32, 0, ContentStore(tmp_path / "models"))


@pytest.fixture
def prepare(tmp_path: Path, images: MemoryImages, split: Split, train_context: TrainContext) -> Callable[..., Prepared]:
    """Make a detector of a class and its settings, ready to be fitted, as a run does."""
    own_images, own_split, own_workshop = images, split, train_context

    def make(
        system: type[Detector],
        settings: StrictModel,
        images: ImageSet | None = None,
        split: Split | None = None,
        train_context: TrainContext | None = None,
    ) -> Prepared:
        place = train_context or own_workshop
        taken = images or own_images
        feature_set = FeatureSet(taken, split or (own_split if images is None else split_of(taken)), {})
        feature_set = system.prepare_images(settings, feature_set, place.split_seed)
        system.check_inputs(settings, feature_set)
        references = system.frozen_networks(settings, feature_set, place)
        feature_set = extract_features(
            system, settings, feature_set, references, place.compute, ContentStore(tmp_path / "features")
        )
        system.check(settings, feature_set)
        return Prepared(system(settings, references, place.compute), feature_set)

    return make


@pytest.fixture
def fit(prepare: Callable[..., Prepared], train_context: TrainContext) -> Callable[..., Fitted]:
    """Make a detector of a class and its settings, and fit it; takes what `prepare` takes."""

    def make(system: type[Detector], settings: StrictModel, **given) -> Fitted:
        detector, feature_set = prepare(system, settings, **given)
        fitting = detector.fit(feature_set, given.get("train_context") or train_context)
        return Fitted(detector.eval(), feature_set, fitting)

    return make
