"""What L_k of patches has a teacher foretell."""

import numpy as np
import torch

from kdad.compute import Compute
from kdad.detectors.uninformed_students.patch_distillation import PatchEmbedding
from kdad.features.source import prepare_source
from kdad.images.synthetic.natural_pool import NaturalPool
from kdad.networks.parameters import SourceParameters

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)


def test_an_embedding_is_standardised_over_the_measured_patches():
    pool = NaturalPool()
    patches = pool.cut(pool.sample(96, np.random.default_rng(0)), 17)
    source = prepare_source(SourceParameters(name="timm:test_resnet", weights="random"))
    embedding = PatchEmbedding(source, _FLOAT32, 32).measure(patches)
    found = embedding(patches)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]), atol=1e-3, rtol=0)
    spread = found.std(dim=0, correction=0)
    varies = spread > 0
    assert varies.any()
    torch.testing.assert_close(spread[varies], torch.ones(int(varies.sum())), atol=1e-2, rtol=0)
