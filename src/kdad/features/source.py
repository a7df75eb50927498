"""A source as a frozen network: loaded as its parameters say, and named so that it can be loaded again."""

import os
import shutil
from pathlib import Path

from pydantic import Field
from safetensors.torch import save_file

from kdad.errors import InputError
from kdad.features.network import FrozenReference
from kdad.features.seen import SeenImages
from kdad.images.statistics import measure_channels
from kdad.networks.source import Source
from kdad.networks.weights import fingerprint_weights, load_source, read_state
from kdad.parameters.source import SourceParameters

_PUBLISHED = ("pretrained", "random")


class SourceReference(FrozenReference):
    """A source by name and weights' hash, its critical points and input normalisation."""

    name: str = Field(description="vgg16, resnet18, efficientnet_lite0 or timm:<name>")
    weights: str = Field(description="pretrained, random, or the file that holds them")
    critical_points: list[str] = Field(description="in the network's order")
    mean: list[float] = Field(description="subtracted from images in [0, 1], a channel")
    sd: list[float] = Field(description="divided by, a channel")

    def open(self) -> Source:
        """Load the source, frozen; raises `InputError` when its weights are gone or are others."""
        source = load_source(self.name, self.weights).select(self.critical_points)
        source.normalise_with(self.mean, self.sd)
        if fingerprint_weights(source) != self.fingerprint:
            raise InputError(
                f"the weights of '{self.name}' ({self.weights}) are not those that the detector was made with: their "
                f"hash differs from {self.fingerprint}; give it the same weights, or train it again"
            )
        return source

    def keep(self, folder: Path, name: str) -> "SourceReference":
        """Copy a weights file to `folder`; published weights are found by their name."""
        if self.weights in _PUBLISHED:
            return self
        target, path = folder / f"{name}.safetensors", Path(self.weights)
        if path.suffix == ".safetensors":
            _link_or_copy(path, target)
        else:
            save_file({key: value.contiguous() for key, value in read_state(path).items()}, target)
            target.chmod(0o644)  # as any file: safetensors makes it its owner's alone
        return self.model_copy(update={"weights": target.name})

    def within(self, folder: Path) -> "SourceReference":
        """Return the reference with the weights file that `keep` copied to `folder`."""
        if self.weights in _PUBLISHED or Path(self.weights).is_absolute():
            return self
        return self.model_copy(update={"weights": str((folder / self.weights).resolve())})


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
            raise InputError(
                "the training images are constant in a channel; set source.input_normalisation to 'source'"
            )
        source.normalise_with(image_statistics["mean"], image_statistics["sd"])
    elif parameters.input_normalisation == "none":
        source.normalise_with([0.0] * 3, [1.0] * 3)
    return source


def reference_source(
    parameters: SourceParameters, seen: SeenImages, statistics: dict[str, list[float]] | None = None
) -> SourceReference:
    """Return what names the source of these parameters; it is loaded once to take its weights' hash.

    `statistics` of the training images are measured when they are to be used and not known.
    """
    if parameters.input_normalisation == "dataset" and statistics is None:
        statistics = measure_channels(seen.images, seen.split.rows("train"))
    source = prepare_source(parameters, statistics)
    weights = parameters.weights
    return SourceReference(
        name=parameters.name,
        weights=weights if weights in _PUBLISHED else str(Path(weights).expanduser().resolve()),
        critical_points=list(source.critical_points),
        mean=source.mean.flatten().tolist(),
        sd=source.sd.flatten().tolist(),
        fingerprint=fingerprint_weights(source),
    )


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name where the disk can, so that many detectors of one source cost its weights once."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
