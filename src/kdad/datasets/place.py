"""What datasets of one path have in common."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset


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
