"""A source as a frozen network: loaded as its parameters say, and named so that it can be loaded again."""

import json
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from safetensors.torch import save_file

from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.checks.statistics import measure_channels
from kdad.networks.parameters import SourceParameters
from kdad.networks.source import Source
from kdad.networks.weights import fingerprint_weights, load_source, read_state
from kdad.storage.content_store import ContentStore

_PUBLISHED = ("pretrained", "random")
_KEPT = "weights.safetensors"


class SourceReference(NetworkReference):
    """A source by name and weights' hash, its critical points and input normalisation."""

    name: str = Field(description="efficientnet_lite0 to _lite2, vgg16, resnet18 or timm:<name>")
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
            raise InputError(
                "the training images are constant in a channel; set source.input_normalisation to 'source'"
            )
        source.normalise_with(image_statistics["mean"], image_statistics["sd"])
    elif parameters.input_normalisation == "none":
        source.normalise_with([0.0] * 3, [1.0] * 3)
    return source


def reference_source(
    parameters: SourceParameters,
    feature_set: FeatureSet,
    store: ContentStore,
) -> SourceReference:
    """Return what names the source of these parameters; it is loaded once a process to take its weights' hash.

    Weights from a file are kept in the `store`. The training images' channels are measured where the source is
    normalised by them.
    """
    by_dataset = parameters.input_normalisation == "dataset"
    statistics = measure_channels(feature_set.images, feature_set.split.rows("train")) if by_dataset else None
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
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _kept_weights(weights: str, fingerprint: str, store: ContentStore) -> str:
    """Return where weights are found from now on: those of a file are copied, as the user may overwrite it."""
    if weights in _PUBLISHED:
        return weights

    def build(folder: Path) -> None:
        save_file({key: value.contiguous() for key, value in read_state(Path(weights)).items()}, folder / _KEPT)
        (folder / _KEPT).chmod(0o644)  # as any file: safetensors makes it its owner's alone

    folder, _ = store.obtain(f"source_{fingerprint}", build)
    return str((folder / _KEPT).resolve())
