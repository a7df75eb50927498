"""What frozen networks are and what they gave, as JSON files that name them: weights and arrays lie in stores."""

import json
import os
from typing import Any

from kdad.datasets.place import PlaceDataset
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.features.cache import FeatureCache, open_cache
from kdad.features.network import NetworkReference
from kdad.storage.replacing import replace_text


class FrozenDataset(PlaceDataset):
    """Frozen networks of a system by name."""

    def __init__(self, *, filepath: str, system: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._system = system

    def load(self) -> dict[str, NetworkReference]:
        """Read the references."""
        found = _read(self)
        return {name: SYSTEMS[self._system].detector.Reference.model_validate(values) for name, values in found.items()}

    def save(self, data: dict[str, NetworkReference]) -> None:
        """Write the references."""
        content = {name: reference.model_dump(mode="json") for name, reference in data.items()}
        replace_text(self._filepath, json.dumps(content, indent=1))


class FeaturesDataset(PlaceDataset):
    """Feature caches by the names of their networks, opened without reading them."""

    def load(self) -> dict[str, FeatureCache]:
        """Open the memory-mapped arrays."""
        return {name: open_cache(self._filepath.parent / folder) for name, folder in _read(self).items()}

    def save(self, data: dict[str, FeatureCache]) -> None:
        """Write where the caches lie."""
        content = {name: os.path.relpath(cache.folder, self._filepath.parent) for name, cache in data.items()}
        replace_text(self._filepath, json.dumps(content, indent=1))


def _read(dataset: PlaceDataset) -> dict[str, Any]:
    path = dataset._filepath
    if not path.is_file():
        raise InputError(f"there is no '{path}' yet; run the whole pipeline, or the step that makes it, first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"'{path}' cannot be read ({error}); run the step that makes it again") from error
