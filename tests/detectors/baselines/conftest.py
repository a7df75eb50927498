"""Ten small images with a source's outputs of them, in memory-mapped files."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from kdad.features.cache import open_cache, write_cache
from kdad.features.extraction import FeatureSet
from kdad.images.splits import Split
from kdad.networks.source import CriticalPoint

POINTS = [CriticalPoint("fine", 3, 4, 6, signed=True), CriticalPoint("coarse", 5, 2, 3, signed=True)]
SIZE = (8, 12)


@pytest.fixture
def feature_set(tmp_path: Path) -> FeatureSet:
    """Ten images of 8 x 12 pixels, of which six train and one is held out, with outputs at two critical points."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(10, 3, *SIZE, generator=generator).numpy()
    found = [torch.randn(10, p.channels, p.height, p.width, generator=generator) for p in POINTS]
    manifest = {"image_size": list(SIZE), "dtype": "float32", "count": 10}
    folder = tmp_path / "cache"
    folder.mkdir()
    write_cache(folder, manifest, POINTS, iter([(images, found)]), {"statistics": []})
    table = pd.DataFrame(
        {"id": [f"{row}" for row in range(10)], "split": ["train"] * 6 + ["validation"] + ["test"] * 3}
    )
    return FeatureSet(None, Split(table), {"source": open_cache(folder)})
