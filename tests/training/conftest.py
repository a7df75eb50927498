"""Small caches of a source's activations, written without an image set."""

import numpy as np
import pandas as pd
import pytest
import torch

from kdad.features.cache import write_cache
from kdad.networks.weights import load_source


@pytest.fixture
def images() -> torch.Tensor:
    """Seven images that differ."""
    return torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def split_table() -> pd.DataFrame:
    """Their splits, not sorted."""
    return pd.DataFrame({"split": ["test", "train", "validation", "train", "train", "validation", "train"]})


@pytest.fixture
def cached_source(tmp_path, images):
    """Build a source with random weights and cache its activations of the images in float32."""

    def build(name, scales=None):
        source = load_source(name, "random")
        points = source.describe((32, 32))
        manifest = {
            "source": name,
            "image_size": [32, 32],
            "dtype": "float32",
            "input_normalisation": [source.mean.flatten().tolist(), source.sd.flatten().tolist()],
            "scales": scales or [1.0] * len(points),
        }
        batches = ((images[rows].numpy(), source(images[rows])) for rows in np.array_split(np.arange(7), 3))
        return source, write_cache(tmp_path / "cache", manifest, points, 7, batches, {})

    return build
