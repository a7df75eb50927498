"""Distances of normalised features, worked out by hand."""

import pytest
import torch

from kdad.detectors.stfpm.losses import location_distance, pyramid_loss, pyramid_map


def test_features_are_compared_at_length_one():
    source = torch.tensor([[[[3.0]], [[4.0]]]])  # (0.6, 0.8)
    student = torch.tensor([[[[5.0]], [[0.0]]]])  # (1, 0)
    # ((0.6 - 1)^2 + 0.8^2) / 2 = (0.16 + 0.64) / 2
    assert location_distance(source, student).item() == pytest.approx(0.4)
    assert location_distance(source, 7 * source).item() == pytest.approx(0.0, abs=1e-6)
    assert location_distance(source, -source).item() == pytest.approx(2.0)


def test_the_loss_is_a_mean_over_locations_and_a_sum_over_points():
    ones, other = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    ones[:, 0], other[:, 0, 0, 0], other[:, 1, 0, 1] = 1.0, 1.0, 1.0
    # equal at one of two locations, orthogonal (distance 1) at the other: 1/2, at both points
    assert pyramid_loss([ones, ones], [other, other]).tolist() == pytest.approx([1.0])


def test_the_map_is_the_product_of_the_points_maps():
    east, north = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    diagonal = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
    found = pyramid_map([east, east], [north, diagonal], (2, 3))
    # orthogonal: 1; at 45 degrees: 1 - cos = 1 - 2^-0.5
    torch.testing.assert_close(found, torch.full((1, 2, 3), 1 - 2**-0.5))
