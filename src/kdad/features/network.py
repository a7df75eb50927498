"""A frozen network as a cache of its outputs and a detector know it: what it is, and how it is opened."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.networks.points import CriticalPoint
from kdad.networks.weights import fingerprint_state
from kdad.storage.replacing import link_or_copy


class DescribingNetwork(Protocol):
    """A module that gives a list of outputs `(B, C_i, h_i, w_i)` for images `(B, 3, H, W)` in [0, 1]."""

    def __call__(self, images: Tensor) -> Sequence[Tensor]: ...

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Return name and shape of each output for images of `size` (H, W)."""


class NetworkReference(BaseModel):
    """What names a frozen network: enough to open it again, and a hash of its weights, by which it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What the name of a kept weights file begins with.
    prefix: ClassVar[str] = ""

    weights: str = Field(description="the safetensors file, or how they are found by the network's name")
    fingerprint: str = Field(description="hash of all weights, 16 hexadecimal digits")

    @property
    def in_a_file(self) -> bool:
        """Whether the weights are in a file, and not found by a name."""
        return True

    @property
    def identity(self) -> dict[str, Any]:
        """What its outputs depend on, as JSON: everything but where the weights lie."""
        return self.model_dump(mode="json", exclude={"weights"})

    @abstractmethod
    def open(self) -> DescribingNetwork:
        """Load the network, frozen; raises `InputError` when the weights are gone or are others."""

    def keep(self, folder: Path, name: str) -> Self:
        """Copy weights that could not be found elsewhere to `folder`, and return what then names the network.

        The copy is a second name of the same file where the disk can: many detectors of one network cost it once.
        """
        if not self.in_a_file:
            return self
        target = folder / f"{self.prefix}{name}.safetensors"
        link_or_copy(self.weights, target)
        return self.model_copy(update={"weights": target.name})

    def within(self, folder: Path) -> Self:
        """Return the reference with the weights that `keep` copied to `folder`."""
        if not self.in_a_file or Path(self.weights).is_absolute():
            return self
        return self.model_copy(update={"weights": str((folder / self.weights).resolve())})

    def read_weights(self) -> dict[str, Tensor]:
        """Read the tensors from their file.

        Raises `InputError` when it is gone, unreadable, or holds others than those that the fingerprint is of.
        """
        try:
            state = load_file(self.weights)
        except (OSError, SafetensorError) as error:
            raise InputError(f"the weights '{self.weights}' cannot be read ({error}); make them again") from error
        if fingerprint_state(state) != self.fingerprint:
            raise InputError(f"'{self.weights}' holds other weights: their hash is not {self.fingerprint}")
        return state


class FrozenNetwork:
    """A frozen network on its machine, loaded when an output is first asked for."""

    def __init__(self, reference: NetworkReference, compute: Compute) -> None:
        self.reference, self.compute = reference, compute

    @cached_property
    def module(self) -> torch.nn.Module:
        """The network, loaded and placed."""
        return self.compute.place(self.reference.open())

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Return the outputs `(B, C_i, h_i, w_i)` of images `(B, 3, H, W)`, float32, with gradients where asked for."""
        with self.compute.autocast():
            return [found.float() for found in self._running(self.compute.move(images))]

    @cached_property
    def _running(self) -> Callable[[Tensor], Sequence[Tensor]]:
        return self.compute.compiled(self.module)
