"""A labelled set of three classes, and settings of small classifiers."""

from collections.abc import Callable

import pytest

from kdad.detectors.soft_target.parameters import SoftTargetSettings
from kdad.images.one_class import OneClassSet
from memory_images import labelled_bars


@pytest.fixture
def labelled() -> Callable[..., OneClassSet]:
    """Make a set of 48 training and 18 test images in three classes."""
    return labelled_bars


@pytest.fixture
def settings() -> SoftTargetSettings:
    """Classifiers that a second trains."""
    own = {"hidden": 6, "steps": 100, "batch_size": 8, "learning_rate": 0.01}
    networks = {"teacher": {"widths": [4, 6], **own}, "student": {"widths": [2, 4], **own}}
    return SoftTargetSettings(
        soft_target={**networks, "temperature": 2, "temperatures": [1], "alphas": [0.5], "label_counts": [2]}
    )
