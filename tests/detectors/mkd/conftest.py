"""Settings of MKD detectors that are small enough for tests, and untrained sources."""

from collections.abc import Callable
from functools import cache

import pytest

from kdad.detectors.mkd.parameters import MkdSettings
from kdad.networks.source import Source
from kdad.networks.weights import load_source


@pytest.fixture
def settings() -> Callable[..., MkdSettings]:
    """Make settings: a small source with random weights, two epochs; `cloner` and `scoring` are laid over them."""

    def make(source=None, features=None, cloner=None, **scoring) -> MkdSettings:
        return MkdSettings(
            source={"name": "timm:test_resnet", "weights": "random"} | (source or {}),
            features=features or {},
            cloner={
                "architecture": {"size": "small", "hidden_width": 8},
                "loss": {},
                "training": {"epochs": 2, "batch_size": 4},
            }
            | (cloner or {}),
            scoring={"localisation": ["discrepancy"], "smoothing": {"discrepancy": {}}} | scoring,
        )

    return make


@cache
def _frozen(name: str) -> Source:
    return load_source(name, "random")


@pytest.fixture(params=["vgg16", "resnet18", "efficientnet_lite0", "timm:test_resnet"])
def source_name(request) -> str:
    """Each kind of source."""
    return request.param


@pytest.fixture
def source(source_name) -> Source:
    """The source of that name with random weights; shared, so only to be read."""
    return _frozen(source_name)


@pytest.fixture
def source_of():
    """Sources by name with random weights; shared, so only to be read."""
    return _frozen


@pytest.fixture
def vgg16() -> Source:
    """VGG-16 with random weights; shared, so only to be read."""
    return _frozen("vgg16")
