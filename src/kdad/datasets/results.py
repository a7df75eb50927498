"""What a step leaves for later ones: map stacks, predictions, thresholds, cases, frozen networks and their features."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from kedro.io import DatasetError

from kdad.datasets.place import PlaceDataset
from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.case import CaseResult
from kdad.features.cache import FeatureCache, open_cache
from kdad.features.network import NetworkReference
from kdad.inference.predictions import Predictions, read_predictions
from kdad.scoring.threshold import Threshold
from kdad.storage.disk_space import create_map
from kdad.storage.replacing import link_or_copy, replace_text, replacing_file


class MapStackDataset(PlaceDataset):
    """Anomaly maps by name, `(N, H, W)` float32 each, memory-mapped; the folder holds just what was saved last."""

    def load(self) -> dict[str, np.ndarray]:
        """Open the stacks."""
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(self._filepath.glob("*.npy"))}

    def save(self, data: dict[str, np.ndarray]) -> None:
        """Write the stacks, and drop those of an earlier run.

        A stack that is a file already gets a second name, not a second copy, where the disk can.
        """
        self._filepath.mkdir(parents=True, exist_ok=True)
        for name, stack in data.items():
            target = self._filepath / f"{name}.npy"
            if not _link(stack, target):
                with replacing_file(target) as temporary:
                    written = create_map(temporary, np.float32, stack.shape)
                    written[...] = stack
                    written.flush()
                    del written  # a file that is open has no other name on Windows
        for path in self._filepath.glob("*.npy"):
            if path.stem not in data:
                path.unlink()


def _link(stack: np.ndarray, target: Path) -> bool:
    """Name the file behind a whole memory map `target`, or copy it; False where there is none."""
    if not isinstance(stack, np.memmap) or stack.filename is None or not Path(stack.filename).exists():
        return False  # also of a map whose file is gone already, which leaves nothing behind
    whole = np.load(stack.filename, mmap_mode="r")
    if whole.shape != stack.shape or whole.dtype != stack.dtype:
        return False
    if not (target.exists() and target.samefile(stack.filename)):
        with TemporaryDirectory(dir=target.parent) as folder:
            os.replace(link_or_copy(stack.filename, Path(folder) / target.name), target)
    return True


class PredictionsDataset(PlaceDataset):
    """A folder with ``predictions.csv``, ``heat_maps``, ``thumbnails`` and perhaps ``maps.npy``, a map a row."""

    def load(self) -> Predictions:
        """Read the table."""
        return read_predictions(self._filepath)

    def save(self, data: Predictions) -> None:
        """Take what lies there already; raises `DatasetError` for predictions that were written elsewhere."""
        if data.folder.resolve() != self._filepath.resolve():
            raise DatasetError(f"these predictions lie in '{data.folder}', and not in '{self._filepath}'")


class ThresholdDataset(PlaceDataset):
    """A threshold with what it promises."""

    def load(self) -> Threshold:
        """Read it."""
        return Threshold.model_validate_json(self._filepath.read_text())

    def save(self, data: Threshold) -> None:
        """Write it; the file is replaced as a whole."""
        replace_text(self._filepath, data.model_dump_json(indent=1))


class CaseResultsDataset(PlaceDataset):
    """The results of cases."""

    def load(self) -> list[CaseResult]:
        """Read them."""
        return [CaseResult.model_validate(result) for result in json.loads(self._filepath.read_text())]

    def save(self, data: list[CaseResult]) -> None:
        """Write them; the file is replaced as a whole."""
        replace_text(self._filepath, json.dumps([result.model_dump(mode="json") for result in data]))


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
