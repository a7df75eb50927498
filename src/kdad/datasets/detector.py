"""A detector's folder as a Kedro dataset."""

import os
import shutil
from pathlib import Path

from kdad.datasets.place import PlaceDataset
from kdad.detectors.detector import Detector
from kdad.detectors.registry import open_detector


class DetectorDataset(PlaceDataset):
    """A folder that holds all that judging takes (`Detector.save`); replaced as a whole."""

    def load(self) -> Detector:
        """Open the detector; raises `InputError` when the folder is incomplete or was changed."""
        return open_detector(self._filepath)

    def save(self, data: Detector) -> None:
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
            target = self._filepath / name / "detector"
            partial = target.with_name("detector.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(folder, partial, copy_function=_link_or_copy)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
