"""How far a student's features are from the source's, location by location (Wang et al. 2021, eq. 1-5)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kdad.scoring.smoothing import upsample


def location_distance(source: Tensor, student: Tensor) -> Tensor:
    """Return half the squared distance of features of length 1 at each location, `(B, h, w)` in [0, 2] (eq. 1, 2).

    `source` and `student` are `(B, C, h, w)`.
    """
    return 0.5 * (normalize(source.float(), dim=1) - normalize(student.float(), dim=1)).square().sum(1)


def pyramid_loss(source: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Return the mean distance over locations, summed over critical points, `(B,)` (eq. 3, 4; weights are 1)."""
    pairs = zip(source, student, strict=True)
    return torch.stack([location_distance(s, t).flatten(1).mean(1) for s, t in pairs]).sum(0)


def pyramid_map(source: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return the product of the points' maps, each enlarged to `size` (bilinear), `(B, H, W)` (eq. 5)."""
    found = None
    for s, t in zip(source, student, strict=True):
        enlarged = upsample(location_distance(s, t), size)
        found = enlarged if found is None else found * enlarged
    return found
