"""L_val, L_dir and their total against arithmetic on paper, values and gradients; at each location, and fused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.detectors.mkd.discrepancy import (
    direction_loss,
    discrepancy_terms,
    forward_map,
    location_direction,
    location_direction_loss,
    location_map,
    location_value_loss,
    value_loss,
)
from kdad.detectors.mkd.parameters import DiscrepancyParameters, ForwardMapParameters


@pytest.fixture
def source() -> torch.Tensor:
    """One image, two channels, 1 x 2 locations: the vectors over channels are (3, 4) and (1, 0)."""
    return torch.tensor([[[[3.0, 1.0]], [[4.0, 0.0]]]])


@pytest.fixture
def cloner() -> torch.Tensor:
    """At the same locations (4, 3) and (0, 2)."""
    return torch.tensor([[[[4.0, 0.0]], [[3.0, 2.0]]]], requires_grad=True)


def test_value_loss_is_the_mean_squared_difference(source, cloner):
    # differences (3-4, 1-0, 4-3, 0-2) = (-1, 1, 1, -2); squares 1 + 1 + 1 + 4 = 7; over N = 2 * 1 * 2 = 4
    assert value_loss(source, cloner).tolist() == [7 / 4]


def test_value_loss_gradient(source, cloner):
    value_loss(source, cloner).sum().backward()
    # d/dc (1/4) sum (s - c)^2 = (c - s) / 2, with c - s = (1, -1, -1, 2)
    assert cloner.grad.flatten().tolist() == [0.5, -0.5, -0.5, 1.0]


def test_direction_loss_of_the_whole_vector(source, cloner):
    # s = (3, 1, 4, 0), c = (4, 0, 3, 2): s.c = 12 + 0 + 12 + 0 = 24; |s|^2 = 26, |c|^2 = 29
    found = direction_loss(source, cloner, "whole_vector")
    assert found.tolist() == pytest.approx([1 - 24 / (26 * 29) ** 0.5], abs=1e-6)


def test_direction_loss_gradient_of_the_whole_vector(source, cloner):
    direction_loss(source, cloner, "whole_vector").sum().backward()
    # d(1 - cos)/dc = (cos * c / |c| - s / |s|) / |c| = (24/29 * c - s) / (|s| |c|):
    # 24/29 * (4, 0, 3, 2) - (3, 1, 4, 0) = (96-87, -29, 72-116, 48) / 29 = (9, -29, -44, 48) / 29
    expected = [part / 29 / (26 * 29) ** 0.5 for part in (9, -29, -44, 48)]
    assert cloner.grad.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_direction_loss_per_location(source, cloner):
    # location 0: (3,4).(4,3) = 24, both of length 5: 1 - 24/25 = 0.04; location 1: (1,0).(0,2) = 0: 1 - 0 = 1
    assert location_direction_loss(source, cloner).flatten().tolist() == pytest.approx([0.04, 1.0], abs=1e-6)
    assert direction_loss(source, cloner, "per_location").tolist() == pytest.approx([0.52], abs=1e-6)


def test_direction_loss_gradient_per_location(source, cloner):
    direction_loss(source, cloner, "per_location").sum().backward()
    # half of d(1 - cos)/dc = (cos * c / |c| - s / |s|) / |c| at each of the two locations
    # location 0: (24/25 * (4,3)/5 - (3,4)/5) / 5 = ((96,72) - (75,100)) / 625 = (21, -28) / 625,
    # halved (0.0168, -0.0224)
    # location 1: (0 - (1,0)) / 2 = (-0.5, 0), halved (-0.25, 0); order: channel 0 at both locations, then channel 1
    assert cloner.grad.flatten().tolist() == pytest.approx([0.0168, -0.25, -0.0224, 0.0], abs=1e-6)


def test_location_value_loss_is_the_mean_over_channels(source, cloner):
    # location 0: ((-1)^2 + 1^2) / 2 = 1; location 1: (1^2 + (-2)^2) / 2 = 2.5
    assert location_value_loss(source, cloner).tolist() == [[[1.0, 2.5]]]


def test_total_weighs_both_terms_and_sums_over_points(source, cloner):
    # second point: s = (1, 0), c = (1, 1): L_val = 1/2, L_dir = 1 - 1/sqrt(2)
    points = [source, torch.tensor([[[[1.0]], [[0.0]]]])], [cloner, torch.tensor([[[[1.0]], [[1.0]]]])]
    parameters = DiscrepancyParameters(value_weight=0.25, direction_weight=3.0, direction_form="whole_vector")
    terms = discrepancy_terms(*points, parameters)
    direction = 1 - 24 / (26 * 29) ** 0.5 + 1 - 0.5**0.5
    assert terms["L_val"].item() == pytest.approx(7 / 4 + 1 / 2)
    assert terms["L_dir"].item() == pytest.approx(direction, abs=1e-6)
    assert terms["total"].item() == pytest.approx(0.25 * 2.25 + 3 * direction, abs=1e-6)


@pytest.mark.parametrize(
    ("value_weight", "direction_weight", "expected"),
    [
        (1.0, 0.0, [0.5, -0.5, -0.5, 1.0]),
        (0.0, 1.0, [0.0168, -0.25, -0.0224, 0.0]),
        # 2 * L_val's gradient + 10 * L_dir's: (1 + 0.168, -1 - 2.5, -1 - 0.224, 2 + 0)
        (2.0, 10.0, [1.168, -3.5, -1.224, 2.0]),
    ],
)
def test_total_gradient(source, cloner, value_weight, direction_weight, expected):
    parameters = DiscrepancyParameters(
        value_weight=value_weight, direction_weight=direction_weight, direction_form="per_location"
    )
    discrepancy_terms([source], [cloner], parameters)["total"].sum().backward()
    assert cloner.grad.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_term_of_weight_zero_is_still_reported(source, cloner):
    terms = discrepancy_terms([source], [cloner], DiscrepancyParameters(value_weight=0.0, direction_weight=1.0))
    assert terms["L_val"].item() == 7 / 4
    assert terms["total"].item() == terms["L_dir"].item()


def test_each_image_has_its_own_value(source, cloner):
    both = torch.cat([source, source]), torch.cat([cloner, source])
    terms = discrepancy_terms([both[0]], [both[1]], DiscrepancyParameters())
    assert terms["L_val"].tolist() == [7 / 4, 0.0]
    assert terms["L_dir"].tolist() == pytest.approx([0.52, 0.0], abs=1e-6)


@pytest.mark.parametrize("form", ["whole_vector", "per_location"])
def test_a_silent_cloner_has_direction_loss_one_and_a_finite_gradient(source, form):
    silent = torch.zeros_like(source, requires_grad=True)
    found = direction_loss(source, silent, form)
    found.sum().backward()
    assert found.item() == 1.0
    assert torch.isfinite(silent.grad).all()


def test_bfloat16_activations_are_compared_in_float32():
    # the difference 1 + 2^-7 is lost when 2.0078125 is rounded to bfloat16, and its square when that is
    source = torch.full((1, 1, 1, 1), 2.0078125, dtype=torch.float32)
    cloner = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    found = value_loss(source, cloner)
    assert found.dtype == torch.float32
    assert found.item() == 1.0078125**2


def test_points_must_pair_up(source, cloner):
    with pytest.raises(ValueError, match="zip"):
        discrepancy_terms([source, source], [cloner], DiscrepancyParameters())


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 100.0))
def test_direction_is_in_range_and_ignores_length(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    source, cloner = torch.randn(2, 2, 3, 2, 2, generator=generator)
    for form in ("whole_vector", "per_location"):
        found = direction_loss(source, cloner, form)
        assert ((found >= -1e-6) & (found <= 2 + 1e-6)).all()
        torch.testing.assert_close(direction_loss(source, cloner * factor, form), found, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(value_loss(source, cloner), value_loss(cloner, source))
    torch.testing.assert_close(location_value_loss(source, cloner).flatten(1).mean(1), value_loss(source, cloner))


def test_the_direction_to_more_digits_is_the_same_direction():
    generator = torch.Generator().manual_seed(0)
    source, cloner = torch.randn(2, 2, 8, 5, 6, generator=generator)
    source[0, :, 0, 0] = 0
    cloner[0, :, 0, :2] = 0
    found = location_direction(source, cloner)
    torch.testing.assert_close(found, location_direction_loss(source, cloner), rtol=1e-5, atol=1e-6)
    assert found[0, 0, :2].tolist() == [1.0, 1.0]
    nearly = source + 1e-4 * cloner  # one minus the cosine is about 1e-8, below what float32 tells from 1
    exact = 1 - torch.cosine_similarity(source.double(), nearly.double(), dim=1)
    torch.testing.assert_close(location_direction(source, nearly)[1].double(), exact[1], rtol=0.02, atol=0)


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
