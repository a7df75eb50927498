"""What L_k has a teacher foretell: a source's activations, each channel standardised."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from kdad.compute import Compute
from kdad.images.checks.statistics import ChannelStatistics
from kdad.networks.source import Source


@dataclass
class StandardisedTarget(ABC):
    """P of L_k: standardised channels give L_k the same scale for any source."""

    source: Source
    compute: Compute
    mean: Tensor | float = field(default=0.0, init=False)
    sd: Tensor | float = field(default=1.0, init=False)
    measured_at_once: ClassVar[int]  # images

    @abstractmethod
    def raw(self, images: Tensor) -> Tensor:
        """Return P `(B, C, ...)` of images `(B, 3, S, S)` before it is standardised, float32."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return P `(B, C, ...)` of images `(B, 3, S, S)`, float32."""
        return (self.raw(images) - self.mean) / self.sd

    def measure(self, images: Tensor) -> "StandardisedTarget":
        """Set mean and standard deviation of each channel to those of `images`; a constant channel keeps its scale."""
        statistics = ChannelStatistics()
        for batch in images.split(self.measured_at_once):
            found = self(batch)
            statistics.update(found.cpu().numpy())
        shape = (-1, *[1] * (found.ndim - 2))
        self.mean, sd = (
            torch.from_numpy(value).float().to(self.compute.device).view(shape)
            for value in (statistics.mean, statistics.sd)
        )
        self.sd = torch.where(sd > 0, sd, 1.0)
        return self
