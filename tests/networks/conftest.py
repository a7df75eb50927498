"""Untrained sources, built once: most tests only read them."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from kdad.networks.source import Source
from kdad.networks.weights import load_source


@cache
def _frozen(name: str) -> Source:
    return load_source(name, "random")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one core: tensors are so small that a second thread costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
