"""What data sets of one path have in common, those that are read alone, and places of which nothing is loaded."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from kdad.storage.content_store import Stores


def file_of(dataset: Any) -> Path:
    """Return the file or folder of a catalog entry that has one."""
    return Path(str(dataset._filepath))


class PlaceDataset(AbstractDataset):
    """A dataset at one path, a file or a folder; what a run reads is looked for before it begins."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class ReadOnlyDataset(AbstractDataset):
    """A dataset that no node may save."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, **told: Any) -> None:
        self._told, self.metadata = told, metadata

    def save(self, data: None) -> None:
        """Raise `DatasetError`."""
        raise DatasetError("this is read, never written")

    def _describe(self) -> dict[str, Any]:
        return self._told


class StoresDataset(ReadOnlyDataset):
    """Three folders of finished work, named by content, which `ContentStore.obtain` fills piece by piece."""

    def __init__(self, *, features: str, models: str, cases: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(features=features, models=models, cases=cases, metadata=metadata)

    def load(self) -> Stores:
        """Return where they lie."""
        return Stores(**{name: Path(folder) for name, folder in self._told.items()})


class OutputFolderDataset(ReadOnlyDataset):
    """Where a node writes piece by piece; the finished result is the data set of its output."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(path=path, metadata=metadata)

    def load(self) -> Path:
        """Return the folder, which need not be there yet."""
        return Path(self._told["path"])
