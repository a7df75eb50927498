"""Folders as Kedro datasets: a place to write in, an activation cache, stacks of maps."""

from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError

from kdad.errors import InputError
from kdad.features.cache import ActivationCache, open_cache


class _FolderDataset(AbstractDataset):
    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class WorkFolderDataset(_FolderDataset):
    """A folder that a node fills itself, row by row, because what it makes need not fit in memory."""

    def load(self) -> Path:
        """Return the path; the node makes the folder."""
        return self._filepath

    def save(self, data: Path) -> None:
        """Refuse: nothing is handed over, the node has written it."""
        raise DatasetError(f"'{self._filepath}' is filled by the node that takes it as an input")


class ActivationCacheDataset(_FolderDataset):
    """The activation cache that its node has written, opened without reading it."""

    def load(self) -> ActivationCache:
        """Open the memory-mapped arrays."""
        try:
            return open_cache(self._filepath)
        except InputError as error:
            raise DatasetError(str(error)) from error

    def save(self, data: ActivationCache) -> None:
        """Check that the node wrote where the catalog says."""
        if data.folder.resolve() != self._filepath.resolve():
            raise DatasetError(f"the cache lies in '{data.folder}', the catalog says '{self._filepath}'")


class MapStackDataset(_FolderDataset):
    """Anomaly maps by name, `(N, H, W)` float32 each, memory-mapped; written by their node with `write_stack`."""

    def __init__(
        self, *, filepath: str, names: list[str] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._names = names

    def load(self) -> dict[str, np.ndarray]:
        """Open the stacks of this folder, all or those that the catalog names."""
        found = {path.stem: path for path in sorted(self._filepath.glob("*.npy"))}
        names = [name for name in found if self._names is None or name in self._names]
        return {name: np.load(found[name], mmap_mode="r") for name in names}

    def save(self, data: dict[str, np.ndarray]) -> None:
        """Remove stacks that this run did not make, so that none of an earlier run is taken for its own."""
        for path in self._filepath.glob("*.npy"):
            if path.stem not in data and (self._names is None or path.stem in self._names):
                path.unlink()
