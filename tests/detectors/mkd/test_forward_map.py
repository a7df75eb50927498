"""The discrepancy at each location, and how points are put together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.mkd.forward_map import forward_map, location_map
from kdad.detectors.mkd.parameters import DiscrepancyParameters, ForwardMapParameters

# One point, channels (3, 4) and (1, 0) at its two locations, against (4, 3) and (0, 2).
_SOURCE = torch.tensor([[[[3.0, 1.0]], [[4.0, 0.0]]]])
_CLONER = torch.tensor([[[[4.0, 0.0]], [[3.0, 2.0]]]])
_LOSS = DiscrepancyParameters(value_weight=0.5, direction_weight=2.0)


def _fused(maps, size, fusion):
    """Return the forward map of points whose L_val at each location is `maps` `(B, h, w)`."""
    rule = ForwardMapParameters(term="value", fusion=fusion)
    source = [one.sqrt()[:, None] for one in maps]
    return forward_map(source, [torch.zeros_like(one) for one in source], rule, _LOSS, size)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("value", [1.0, 2.5]),  # ((-1)^2 + 1^2) / 2 and (1^2 + (-2)^2) / 2
        ("direction", [0.04, 1.0]),  # 1 - 24/25 and 1 - 0
        ("total", [0.5 * 1.0 + 2 * 0.04, 0.5 * 2.5 + 2 * 1.0]),
    ],
)
def test_maps_of_each_term(term, expected):
    found = location_map(_SOURCE, _CLONER, term, _LOSS)
    assert found.shape == (1, 1, 2)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_rounding_does_not_make_a_map_negative():
    vectors = torch.rand(1, 512, 30, 30, generator=torch.Generator().manual_seed(0))
    assert (1 - torch.cosine_similarity(vectors, 3 * vectors, dim=1)).min() < 0  # else nothing is shown
    found = location_map(vectors, 3 * vectors, "direction", _LOSS)
    assert 0 <= found.min() <= found.max() < 1e-12


def test_sum_of_upsampled_points():
    # the first is 4 everywhere; bilinear between the centres of 1 and 3 gives 1, 1.5, 2.5, 3
    found = _fused([torch.tensor([[[4.0]]]), torch.tensor([[[1.0, 3.0]]])], (1, 4), "sum")
    assert found.shape == (1, 1, 4)
    assert found.flatten().tolist() == pytest.approx([5.0, 5.5, 6.5, 7.0])


def test_geometric_mean_of_points():
    maps = [torch.tensor([[[4.0]]]), torch.tensor([[[2.0]]]), torch.tensor([[[27.0]]])]
    found = _fused(maps, (2, 3), "geometric_mean")  # (4 * 2 * 27)^(1/3) = 216^(1/3) = 6
    assert found.shape == (1, 2, 3)
    assert found.flatten().tolist() == pytest.approx([6.0] * 6, rel=1e-5)


def test_geometric_mean_damps_what_one_point_alone_finds():
    alone, both, nothing = torch.tensor([[[1.0]]]), torch.tensor([[[0.25]]]), torch.zeros(1, 1, 1)
    sums = [_fused(pair, (1, 1), "sum").item() for pair in ([alone, nothing], [both, both])]
    means = [_fused(pair, (1, 1), "geometric_mean").item() for pair in ([alone, nothing], [both, both])]
    assert sums[0] > sums[1]
    assert 0 < means[0] < 1e-3 < means[1]


def test_one_point_alone_is_its_own_mean():
    single = torch.tensor([[[0.25, 0.5], [1.0, 2.0]]])
    torch.testing.assert_close(_fused([single], (2, 2), "geometric_mean"), single)
    torch.testing.assert_close(_fused([single], (2, 2), "sum"), single)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3))
def test_scales_change_the_geometric_mean_by_a_factor_only(seed, scales):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.rand(2, side, side + 1, generator=generator) + 0.01 for side in (2, 3, 5)]
    plain = _fused(maps, (8, 10), "geometric_mean")
    scaled = _fused([one / scale for one, scale in zip(maps, scales, strict=True)], (8, 10), "geometric_mean")
    factor = (scales[0] * scales[1] * scales[2]) ** (1 / 3)
    torch.testing.assert_close(scaled * factor, plain, rtol=1e-4, atol=1e-6)
    assert (plain <= _fused(maps, (8, 10), "sum") / 3 + 1e-6).all()  # no mean above the arithmetic
