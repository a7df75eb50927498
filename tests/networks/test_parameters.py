"""None"""

import pytest
import torch
from torch.nn import functional as F

from kdad.errors import InputError
from kdad.networks.parameters import check_size, smallest_image


@pytest.mark.parametrize(("patch_size", "smallest"), [(17, 9), (33, 17), (65, 33)])
def test_the_smallest_image_is_the_smallest_that_can_be_mirrored_by_half_a_patch(patch_size, smallest):
    radius = patch_size // 2
    F.pad(torch.zeros(1, 3, smallest, smallest), [radius] * 4, mode="reflect")
    with pytest.raises(RuntimeError, match=r"(?i)padding size"):
        F.pad(torch.zeros(1, 3, smallest - 1, smallest - 1), [radius] * 4, mode="reflect")
    assert smallest_image(patch_size) == smallest


def test_the_shorter_side_decides():
    check_size((17, 400), 33)
    check_size((400, 17), 33)
    for size in ((16, 400), (400, 16)):
        with pytest.raises(InputError, match=f"{size[0]} x {size[1]} pixels are too small for the receptive field 33"):
            check_size(size, 33)
