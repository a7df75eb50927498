"""The forward map: one forward pass, the discrepancy at each location, fused over critical points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdad.detectors.mkd.discrepancy import location_direction, location_value_loss
from kdad.detectors.mkd.parameters import DiscrepancyParameters
from kdad.scoring.enlarging import enlarge
from kdad.scoring.position import PositionMoments

#: Added before the logarithm of the geometric mean; far below any cosine distance that float32 resolves.
_FLOOR = 1e-8


def location_maps(
    source: Sequence[Tensor], cloner: Sequence[Tensor], term: str, loss: DiscrepancyParameters
) -> list[Tensor]:
    """Return each critical point's discrepancy at every location, `(B, H_i, W_i)`, never negative."""
    maps = []
    for s, c in zip(source, cloner, strict=True):
        value = location_value_loss(s, c) if term != "direction" else 0.0
        direction = location_direction(s, c) if term != "value" else 0.0
        if term == "total":
            value, direction = loss.value_weight * value, loss.direction_weight * direction
        maps.append(value + direction)
    return maps


def fuse_points(
    maps: Sequence[Tensor],
    size: tuple[int, int],
    fusion: str,
    scales: Sequence[float],
    moments: Sequence[PositionMoments] = (),
) -> Tensor:
    """Upsample each point's map to `size`, divide it by its scale, and return their sum or geometric mean.

    Maps that have `moments` are standardised by them first. The geometric mean asks every resolution to agree: what one
    point alone finds is damped. It does not depend on the scales up to a constant factor.
    """
    enlarged = [enlarge(one, size) / scale for one, scale in zip(maps, scales, strict=True)]
    if moments:
        enlarged = [own.normalise(one) for own, one in zip(moments, enlarged, strict=True)]
    resized = torch.stack(enlarged)  # (points, B, H, W)
    if fusion == "sum":
        return resized.sum(0)
    return resized.clamp_min(_FLOOR).log().mean(0).exp()
