"""What normal images make of maps: by hand, and refused where it is of other maps."""

import pytest
import torch

from kdad.detectors.mkd.normalised_map import NormalisedMap
from kdad.scoring.position import PositionMoments


def test_means_are_of_held_out_maps_alone():
    made = NormalisedMap(2, (1, 2), 0.0, "validation")
    assert made.parts == ("validation",)
    made.take_in("validation", [torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 0.0]]])])
    made.take_in("validation", [torch.tensor([[[5.0, 7.0]]]), torch.tensor([[[0.0, 0.0]]])])
    made.settle()
    assert made.means == [4.0, 1e-12]  # a map that is nothing is not divided by nothing


@pytest.mark.parametrize(
    ("means", "count", "message"),
    [([1.0], 2, "it has 1 point_means for 2"), ([1.0, 1.0], 1, "it has moments of 1 points, and 2 are standardised")],
)
def test_what_was_kept_of_other_points_is_refused(means, count, message):
    moments = [PositionMoments(torch.zeros(1, 1), torch.ones(1, 1))] * count
    with pytest.raises(ValueError, match=message):
        NormalisedMap(2, (1, 1), 0.0, "position").restore(means, moments)
