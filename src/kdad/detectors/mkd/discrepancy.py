"""The discrepancy between source and cloner (Salehi et al. 2021, eq. 1-3): of an image, and at each location."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kdad.detectors.mkd.parameters import DiscrepancyParameters, ForwardMapParameters
from kdad.scoring.smoothing import geometric_mean, upsample

#: Lengths below are taken for this one, as `cosine_similarity` does.
_SHORTEST = 1e-8


def value_loss(source: Tensor, cloner: Tensor) -> Tensor:
    """Return L_val of one critical point (eq. 1): the mean squared difference, `(B,)` for `(B, C, H, W)`."""
    return (source.float() - cloner.float()).square().flatten(1).mean(1)


def direction_loss(source: Tensor, cloner: Tensor, form: str) -> Tensor:
    """Return L_dir of one critical point, `(B,)` in [0, 2]: one minus the cosine (eq. 2).

    ``whole_vector`` takes the cosine of the flattened activations, as published; ``per_location`` takes it over the
    channels at each location and averages over locations.
    """
    if form == "whole_vector":
        return 1 - cosine_similarity(source.float().flatten(1), cloner.float().flatten(1), dim=1)
    return location_direction_loss(source, cloner).flatten(1).mean(1)


def location_value_loss(source: Tensor, cloner: Tensor) -> Tensor:
    """Return L_val at each location, `(B, H, W)`: the mean over channels."""
    return (source.float() - cloner.float()).square().mean(1)


def location_direction_loss(source: Tensor, cloner: Tensor) -> Tensor:
    """Return L_dir at each location, `(B, H, W)` in [0, 2]: the cosine over channels."""
    source, cloner = source.float(), cloner.float()
    # Not `cosine_similarity`, which divides every channel and takes one and a half times as long.
    lengths = source.norm(dim=1).clamp_min(_SHORTEST) * cloner.norm(dim=1).clamp_min(_SHORTEST)
    return 1 - (source * cloner).sum(1) / lengths


def location_direction(source: Tensor, cloner: Tensor) -> Tensor:
    """Return the same as `location_direction_loss`, to more digits: half the squared distance of unit vectors.

    One minus a cosine near 1 has few digits left in float32, too few for a map that is divided by a small spread.
    """
    units, empty = [], 0.0
    for found in (source.float(), cloner.float()):
        length = found.norm(dim=1, keepdim=True)
        units.append(found / length.clamp_min(_SHORTEST))
        empty = empty + 0.5 * (length[:, 0] == 0)  # a vector without direction has a cosine of 0
    return 0.5 * (units[0] - units[1]).square().sum(1) + empty


def discrepancy_terms(
    source: Sequence[Tensor], cloner: Sequence[Tensor], parameters: DiscrepancyParameters
) -> dict[str, Tensor]:
    """Return L_val, L_dir and their weighted total for each image, `(B,)`, summed over critical points (eq. 3).

    A term of weight 0 is still reported; it does not enter the total.
    """
    value = torch.stack([value_loss(s, c) for s, c in zip(source, cloner, strict=True)]).sum(0)
    form = parameters.direction_form
    direction = torch.stack([direction_loss(s, c, form) for s, c in zip(source, cloner, strict=True)]).sum(0)
    total = parameters.value_weight * value + parameters.direction_weight * direction
    return {"total": total, "L_val": value, "L_dir": direction}


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
    return torch.stack(maps).sum(0) if rule.fusion == "sum" else geometric_mean(maps)
