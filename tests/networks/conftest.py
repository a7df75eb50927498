"""Untrained sources, built once: most tests only read them."""

from functools import cache

import pytest

from kdad.networks.source import Source
from kdad.networks.weights import load_source


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
