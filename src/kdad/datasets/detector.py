"""A detector's folder as a Kedro dataset."""

import shutil
from pathlib import Path

from kdad.datasets.place import PlaceDataset
from kdad.detectors.opening import open_predictor
from kdad.detectors.predictor import Predictor
from kdad.storage.replacing import link_or_copy, replacing


class DetectorDataset(PlaceDataset):
    """A folder that holds all that judging takes (`Detector.save`), or an exported file; replaced as a whole."""

    def load(self) -> Predictor:
        """Open the detector; raises `InputError` when the folder is incomplete or was changed."""
        return open_predictor(self._filepath)

    def save(self, data: Predictor) -> None:
        """Write the folder."""
        data.save(self._filepath)


class DetectorCopiesDataset(PlaceDataset):
    """Detectors by name, each in ``<name>/detector`` below the path; copies of folders that hold them already."""

    def load(self) -> dict[str, Path]:
        """Return the folders."""
        return {path.parent.name: path for path in sorted(self._filepath.glob("*/detector"))}

    def save(self, data: dict[str, Path]) -> None:
        """Copy each folder, large files by a second name where the disk can; one that is there is replaced."""
        for name, folder in data.items():
            with replacing(self._filepath / name / "detector") as partial:
                shutil.copytree(folder, partial, copy_function=link_or_copy, dirs_exist_ok=True)
