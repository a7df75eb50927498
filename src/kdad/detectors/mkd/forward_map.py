"""The forward map: one forward pass, the discrepancy at each location, fused over critical points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdad.detectors.mkd.discrepancy import location_direction, location_value_loss
from kdad.detectors.mkd.parameters import DiscrepancyParameters, ForwardMapParameters
from kdad.scoring.smoothing import upsample

#: Added before the logarithm of the geometric mean; far below any discrepancy that float32 resolves.
_FLOOR = 1e-8


def location_map(source: Tensor, cloner: Tensor, term: str, loss: DiscrepancyParameters) -> Tensor:
    """Return the discrepancy of one critical point `(B, C, H, W)` at every location, `(B, H, W)`, never negative.

    ``total`` is L_total (Salehi et al. 2021, eq. 3) of a location: L_val and L_dir as the loss weighs them.
    """
    if term == "value":
        return location_value_loss(source, cloner)
    if term == "direction":
        return location_direction(source, cloner)
    value, direction = location_value_loss(source, cloner), location_direction(source, cloner)
    return loss.value_weight * value + loss.direction_weight * direction


def forward_map(
    source: Sequence[Tensor],
    cloner: Sequence[Tensor],
    rule: ForwardMapParameters,
    loss: DiscrepancyParameters,
    size: tuple[int, int],
) -> Tensor:
    """Return the points' discrepancy at each location, upsampled to `size` (H, W): sum or geometric mean, `(B, H, W)`.

    The geometric mean asks every resolution to agree: what one point alone finds is damped. A point's scale changes it
    by a constant factor alone.
    """
    maps = [upsample(location_map(s, c, rule.term, loss), size) for s, c in zip(source, cloner, strict=True)]
    stacked = torch.stack(maps)  # (points, B, H, W)
    if rule.fusion == "sum":
        return stacked.sum(0)
    return stacked.clamp_min(_FLOOR).log().mean(0).exp()
