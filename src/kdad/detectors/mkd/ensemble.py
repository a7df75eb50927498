"""Several cloners of one source: the mean of what they say, and how they disagree about it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from kdad.detectors.mkd.parameters import ArchitectureParameters, ClonerParameters, DiscrepancyParameters
from kdad.seeding import torch_seed


class Cloners(nn.Module):
    """Cloners that differ in their initialisation, and maybe in their width; called, they give their mean."""

    def __init__(self, cloners: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(cloners)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the mean activations `(B, C_i, H_i, W_i)` for images `(B, 3, H, W)`."""
        return mean_activations(each_cloner(self, images))


def build_cloners(
    parameters: ClonerParameters, build: Callable[[ArchitectureParameters], nn.Module], seed: int
) -> nn.Module:
    """Build ``cloner.count`` cloners, each initialised by a stream of its own; one alone is returned as it is.

    The first of several is the one that would stand alone with this seed.
    """
    cloners = []
    for number in range(parameters.count):
        with torch_seed(seed, "cloner", "initialisation", *([number] if number else [])):
            cloners.append(build(parameters.architecture_of(number)))
    return cloners[0] if len(cloners) == 1 else Cloners(cloners)


def each_cloner(cloner: nn.Module, images: Tensor) -> list[list[Tensor]]:
    """Return what each cloner gives for images `(B, 3, H, W)`: activations `(B, C_i, H_i, W_i)` by critical point."""
    return [one(images) for one in cloner.members] if isinstance(cloner, Cloners) else [cloner(images)]


def mean_activations(found: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the mean over cloners at each critical point, `(B, C_i, H_i, W_i)`."""
    if len(found) == 1:
        return list(found[0])
    return [torch.stack([one.float() for one in point]).mean(0) for point in zip(*found, strict=True)]


def location_disagreement(cloners: Sequence[Tensor], term: str, loss: DiscrepancyParameters) -> Tensor:
    """Return how cloners' activations `(B, C, H, W)` of one critical point differ at each location, `(B, H, W)`.

    Value: their variance over cloners, the mean over channels (as Bergmann et al. 2020, eq. 9, for students).
    Direction, in [0, 1): the variance of their unit vectors, which is the mean of one minus the cosine over all ordered
    pairs of cloners, each with itself among them. ``total`` weighs both as the loss does.
    """
    found = torch.stack([one.float() for one in cloners])  # (M, B, C, H, W)
    value = _variance(found).mean(1) if term != "direction" else 0.0
    direction = _variance(normalize(found, dim=2, eps=1e-8)).sum(1) if term != "value" else 0.0
    if term == "total":
        value, direction = loss.value_weight * value, loss.direction_weight * direction
    return value + direction


def _variance(found: Tensor) -> Tensor:
    """Return the variance over the first dimension, dividing by its length."""
    return found.var(0, correction=0)
