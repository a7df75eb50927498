"""A frozen network as a cache of its outputs and a detector know it: what it is, and how it is opened."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from kdad.compute import Compute
from kdad.networks.points import CriticalPoint


class DescribingNetwork(Protocol):
    """A module that gives a list of outputs `(B, C_i, h_i, w_i)` for images `(B, 3, H, W)` in [0, 1]."""

    def __call__(self, images: Tensor) -> Sequence[Tensor]: ...

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Return name and shape of each output for images of `size` (H, W)."""


class FrozenReference(BaseModel):
    """What names a frozen network: enough to open it again, and a hash of its weights, by which it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str = Field(description="hash of all weights, 16 hexadecimal digits")

    @property
    def identity(self) -> dict[str, Any]:
        """What its outputs depend on, as JSON: everything but where the weights lie."""
        return self.model_dump(mode="json", exclude={"weights"})

    @abstractmethod
    def open(self) -> DescribingNetwork:
        """Load the network, frozen; raises `InputError` when the weights are gone or are others."""

    def keep(self, folder: Path, name: str) -> "FrozenReference":
        """Copy weights that could not be found elsewhere to `folder`, and return what then names the network."""
        return self

    def within(self, folder: Path) -> "FrozenReference":
        """Return the reference with the weights that `keep` copied to `folder`."""
        return self


class FrozenNetwork:
    """A frozen network on its machine, loaded when an output is first asked for."""

    def __init__(self, reference: FrozenReference, compute: Compute) -> None:
        self.reference, self.compute = reference, compute

    @cached_property
    def module(self) -> torch.nn.Module:
        """The network, loaded and placed."""
        return self.compute.place(self.reference.open())

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return the outputs `(B, C_i, h_i, w_i)` of images `(B, 3, H, W)`, float32, with gradients where asked for."""
        with self.compute.autocast():
            return [found.float() for found in self.module(self.compute.move(images))]
