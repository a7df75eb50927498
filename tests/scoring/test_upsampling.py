import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from kdad.scoring.upsampling import enlarging_matrix, upsample


@pytest.mark.parametrize("size", [(8, 12), (16, 12), (9, 40), (8, 13), (3, 5)])
def test_a_graph_enlarges_by_matrices_as_torch_does(size, monkeypatch):
    maps = torch.rand(3, 8, 12)
    expected = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(upsample(maps, size), expected)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr("kdad.scoring.upsampling.interpolate", None)
    np.testing.assert_allclose(upsample(maps, size), expected, atol=1e-6)


def test_a_matrix_by_hand():
    # Of two pixels at 0.5 and 1.5, four lie at 0.25, 0.75, 1.25 and 1.75; the outer ones keep the border's value.
    assert enlarging_matrix(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert enlarging_matrix(1, 3).tolist() == [[1], [1], [1]]
