"""The step that is timed: a small cloner learns what a source shows of images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.mkd.cloner import Cloner, build_cloner
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, DiscrepancyParameters
from kdad.networks.source import CriticalPoint


def new_cloner(source: str, points: list[CriticalPoint], side: int, compute: Compute) -> Cloner:
    """Return a small cloner of a source, on its device and ready to be trained."""
    size = (side, side)
    cloner = build_cloner(ArchitectureParameters(), source, points, size, ([0.0] * 3, [1.0] * 3))
    return compute.place(cloner).train()


def training_step(
    cloner: Cloner, compute: Compute, images: Callable[[], Tensor], targets: Callable[[], Sequence[Tensor]]
) -> Callable[[], None]:
    """Return a step that asks for images `(B, 3, H, W)` and for the activations that are to be learnt."""
    optimiser = torch.optim.Adam(cloner.parameters(), lr=1e-3)

    def step() -> None:
        wanted = targets()
        with compute.autocast():
            found = cloner(images())
        loss = discrepancy_terms(wanted, found, DiscrepancyParameters())["total"].mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step
