"""A labelled set of three classes, and settings of small classifiers."""

from collections.abc import Callable

import numpy as np
import pytest

from kdad.detectors.soft_target.parameters import SoftTargetSettings
from kdad.images.one_class import LabelledImages, OneClassSet
from kdad.parameters.dataset import DatasetParameters

CLASSES = ("low", "middle", "high")


@pytest.fixture
def labelled() -> Callable[..., OneClassSet]:
    """Make a set of 48 training and 18 test images of 12 x 10 pixels: a noisy bar, each class's at another place."""

    def make(channels: int = 1, normal: int = 1) -> OneClassSet:
        generator = np.random.default_rng(0)

        def part(count: int) -> LabelledImages:
            classes = np.arange(count) % 3
            pixels = generator.integers(0, 120, (count, 12, 10, channels), dtype=np.uint8)
            for row, number in enumerate(classes):
                pixels[row, 3 * number : 3 * number + 3] += 120
            return LabelledImages(pixels[..., 0] if channels == 1 else pixels, classes)

        parameters = DatasetParameters(name="digits", normal_class=normal, image_size=32, validation_fraction=0.25)
        return OneClassSet(parameters, part(48), part(18), CLASSES)

    return make


@pytest.fixture
def settings() -> SoftTargetSettings:
    """Classifiers that a second trains."""
    own = {"hidden": 6, "steps": 100, "batch_size": 8, "learning_rate": 0.01}
    networks = {"teacher": {"widths": [4, 6], **own}, "student": {"widths": [2, 4], **own}}
    return SoftTargetSettings(
        soft_target={**networks, "temperature": 2, "temperatures": [1], "alphas": [0.5], "label_counts": [2]}
    )
