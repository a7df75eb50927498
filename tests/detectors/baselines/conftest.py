"""A small activation cache, written in memory-mapped files."""

from pathlib import Path

import pytest
import torch

from kdad.features.cache import ActivationCache, write_cache
from kdad.networks.points import CriticalPoint

POINTS = [CriticalPoint("fine", 3, 4, 6, signed=True), CriticalPoint("coarse", 5, 2, 3, signed=True)]
SIZE = (8, 12)


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    """Ten images of 8 x 12 pixels, with activations at two critical points."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(10, 3, *SIZE, generator=generator).numpy()
    found = [torch.randn(10, p.channels, p.height, p.width, generator=generator) for p in POINTS]
    manifest = {"image_size": list(SIZE), "dtype": "float32"}
    return write_cache(tmp_path / "cache", manifest, POINTS, 10, iter([(images, found)]), {"scales": [1.0, 2.0]})
