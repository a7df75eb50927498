"""Frozen networks as a cache of their outputs and a detector know them; sources among them."""

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.images.image_set import ImageSet, measure_channels
from kdad.images.splits import Split
from kdad.networks.fusion import for_predicting
from kdad.networks.parameters import SourceParameters
from kdad.networks.source import Source
from kdad.networks.weights import fingerprint_state, fingerprint_weights, load_source, read_state
from kdad.storage.content_store import ContentStore
from kdad.storage.replacing import link_or_copy


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
    def open(self) -> torch.nn.Module:
        """Load the network, frozen; raises `InputError` when the weights are gone or are others.

        It gives a list of outputs `(B, C_i, h_i, w_i)` for images `(B, 3, H, W)` in [0, 1]; its `describe` says which
        `CriticalPoint` each is for images of a size (H, W).
        """

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
            state = load(Path(self.weights).read_bytes())  # no map: the file may change later
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

    def load_now(self) -> None:
        """Load weights that lie in a file, which may be another when an output is asked for."""
        if self.reference.in_a_file:
            self.module  # noqa: B018

    def outputs(self, images: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the outputs `(B, C_i, h_i, w_i)` of images `(B, 3, H, W)`, float32, with gradients where asked for.

        `depth` is how many outputs of a source are wanted, from the first on; None means all.
        """
        given = [self.compute.move(images)] if depth is None else [self.compute.move(images), depth]
        with self.compute.autocast():
            return [found.float() for found in self._running(*given)]

    @cached_property
    def _running(self) -> Callable[..., Sequence[Tensor]]:
        return for_predicting(self.module, self.compute)


_PUBLISHED = ("pretrained", "random")
_KEPT = "weights.safetensors"


class SourceReference(NetworkReference):
    """A source by name and weights' hash, its critical points and input normalisation."""

    name: str = Field(description="efficientnet_lite0 to _lite2, vgg16, resnet18 or timm:<name>")
    critical_points: list[str] = Field(description="in the network's order")
    mean: list[float] = Field(description="subtracted from images in [0, 1], a channel")
    sd: list[float] = Field(description="divided by, a channel")

    def open(self) -> Source:
        source = load_source(self.name, self.weights).select(self.critical_points)
        source.normalise_with(self.mean, self.sd)
        if fingerprint_weights(source) != self.fingerprint:
            raise InputError(
                f"the weights of '{self.name}' ({self.weights}) are not those that the detector was made with: their "
                f"hash differs from {self.fingerprint}; give it the same weights, or train it again"
            )
        return source

    @property
    def in_a_file(self) -> bool:
        """Whether the weights came from a file; published and random ones are found by their name."""
        return self.weights not in _PUBLISHED


def prepare_source(parameters: SourceParameters, image_statistics: dict[str, list[float]] | None = None) -> Source:
    """Load the source with its selected critical points and input normalisation.

    `image_statistics` holds ``mean`` and ``sd`` of the training images, three values each. Raises `InputError` when
    they are to be used and a channel is constant.
    """
    source = load_source(parameters.name, parameters.weights)
    if parameters.critical_points is not None:
        source.select(parameters.critical_points)
    if parameters.input_normalisation == "dataset":
        if 0 in image_statistics["sd"]:
            message = "the training images are constant in a channel; set source.input_normalisation to 'source'"
            raise InputError(message)
        source.normalise_with(image_statistics["mean"], image_statistics["sd"])
    elif parameters.input_normalisation == "none":
        source.normalise_with([0.0] * 3, [1.0] * 3)
    return source


def reference_source(
    parameters: SourceParameters, images: ImageSet, split: Split, store: ContentStore
) -> SourceReference:
    """Return what names the source of these parameters; it is loaded once a process to take its weights' hash.

    Weights from a file are kept in the `store`. The training images' channels are measured where the source is
    normalised by them.
    """
    by_dataset = parameters.input_normalisation == "dataset"
    statistics = measure_channels(images, split.rows("train")) if by_dataset else None
    named = _name_source(parameters.model_dump_json(), json.dumps(statistics), _state_of_file(parameters.weights))
    return named.model_copy(update={"weights": _kept_weights(parameters.weights, named.fingerprint, store)})


@lru_cache(maxsize=32)
def _name_source(parameters: str, statistics: str, state: tuple[int, int] | None) -> SourceReference:
    """Load a source to name it; the many cases of an ablation ask for the same."""
    given = SourceParameters.model_validate_json(parameters)
    source = prepare_source(given, json.loads(statistics))
    return SourceReference(
        name=given.name,
        weights=given.weights,
        critical_points=list(source.critical_points),
        mean=source.mean.flatten().tolist(),
        sd=source.sd.flatten().tolist(),
        fingerprint=fingerprint_weights(source),
    )


def _state_of_file(weights: str) -> tuple[int, int] | None:
    """Return what changes when a file of weights is written anew; None for weights of no file, or of one not there."""
    file = Path(weights).expanduser()
    if weights in _PUBLISHED or not file.is_file():
        return None
    return file.stat().st_mtime_ns, file.stat().st_size


def _kept_weights(weights: str, fingerprint: str, store: ContentStore) -> str:
    """Return where weights are found from now on: those of a file are copied, as the user may overwrite it."""
    if weights in _PUBLISHED:
        return weights

    def build(folder: Path) -> None:
        save_file({key: value.contiguous() for key, value in read_state(Path(weights)).items()}, folder / _KEPT)
        (folder / _KEPT).chmod(0o644)  # as any file: safetensors makes it its owner's alone

    folder, _ = store.obtain(f"source_{fingerprint}", build)
    return str((folder / _KEPT).resolve())
