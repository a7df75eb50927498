"""The folder of an inference or a watch, which its node has filled file by file."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from kdad.datasets.place import PlaceDataset
from kdad.inference.predictions import Predictions, read_predictions


class PredictionsDataset(PlaceDataset):
    """A folder with ``predictions.csv``, ``heat_maps``, ``thumbnails`` and perhaps ``maps.npy``, a map a row."""

    def load(self) -> Predictions:
        """Read the table."""
        return read_predictions(self._filepath)

    def save(self, data: Predictions) -> None:
        """Take what lies there already; raises `DatasetError` for predictions that were written elsewhere."""
        if data.folder.resolve() != self._filepath.resolve():
            raise DatasetError(f"these predictions lie in '{data.folder}', and not in '{self._filepath}'")


class OutputFolderDataset(AbstractDataset[None, Path]):
    """Where a node writes piece by piece; the finished result is the data set of its output."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(path)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder, which need not be there yet."""
        return self._folder

    def save(self, data: None) -> None:
        """Refuse: what is written there is another data set."""
        raise DatasetError("an output folder is filled by the node that takes it")

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._folder)}
