import pytest
import torch
from torch.nn.functional import interpolate

from kdad.scoring.upsampling import upsample


@pytest.mark.parametrize("size", [(8, 12), (16, 12), (9, 40), (8, 13), (3, 5), (900, 700)])
def test_upsampling_is_torchs(size):
    maps = torch.rand(3, 8, 12)
    expected = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample(maps, size), expected, rtol=0, atol=2e-7)


def test_of_many_pixels_positions_are_torchs_too():
    maps = torch.rand(1, 256, 200)
    expected = interpolate(maps[:, None], (900, 1700), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample(maps, (900, 1700)), expected, rtol=0, atol=1e-6)


def test_rows_by_hand():
    # Of two pixels at 0.5 and 1.5, four lie at 0.25, 0.75, 1.25 and 1.75; the outer ones keep the border's value.
    two = torch.tensor([[[0.0], [4.0]]])
    assert upsample(two, (4, 1)).flatten().tolist() == [0, 1, 3, 4]
    assert upsample(two.mT, (3, 4)).tolist() == [[[0, 1, 3, 4]] * 3]
