"""Detectors as Kedro data sets: a folder that is written, copies of several, and kept ones by where they lie."""

import shutil
from pathlib import Path
from typing import Any

from kdad.datasets.place import PlaceDataset, ReadOnlyDataset
from kdad.detectors.detector import Detector
from kdad.detectors.exported.detector import ExportedDetector, exported_file
from kdad.detectors.folder import FACTS
from kdad.detectors.opening import open_predictor
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.parameters.strict import as_list
from kdad.project.places import DATA, find_detector, open_found
from kdad.storage.replacing import is_taken, link_or_copy, replacing


class DetectorDataset(PlaceDataset):
    """A folder that holds all that predicting takes (`Detector.save`), or an exported file; replaced as a whole."""

    def load(self) -> Predictor:
        """Open the detector; raises `InputError` when the folder is incomplete or was changed.

        Most nodes want its settings and not its frozen networks, which are read when they are needed.
        """
        return open_predictor(self._filepath, with_networks=False)

    def save(self, data: Detector | ExportedDetector) -> None:
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


class LocatedDetectorDataset(ReadOnlyDataset):
    """A detector that was kept: a folder, an exported file, ``latest``, ``runs:/ID``, or ``models:/NAME@ALIAS``.

    A run's is its artifact ``detector``; `tracking` is the MLflow that runs and models are looked for in.
    `successor` is where a detector made from it will be kept, which must be elsewhere. ``latest`` is looked for below
    `outputs`, a folder of the project. With `several`, the name of the setting, `location` is a list.
    """

    def __init__(
        self,
        *,
        location: str | list[str] | None,
        project: str,
        tracking: str | None = None,
        successor: str | None = None,
        outputs: str = DATA,
        several: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(location=location, metadata=metadata)
        self._location: Any = location
        self._project, self._tracking = Path(project), tracking
        self._successor, self._outputs, self._several = successor, outputs, several

    def load(self) -> Predictor | list[Predictor]:
        """Open the detector, or all of several; its record says where it was found."""
        if self._several is None:
            return self._open(self._location)
        if not self._location:
            raise InputError(f"{self._several} is not given; name the detectors, as [FOLDER, models:/NAME@ALIAS]")
        return [self._open(location) for location in as_list(self._location, list[str])]

    def _open(self, location: str) -> Predictor:
        folder, how = find_detector(location, self._project, self._tracking, self._outputs)
        if self._successor is not None:
            check_successor(folder, self._project / self._successor)
        return open_found(folder, how)


def check_successor(folder: Path, successor: Path) -> None:
    """Raise `InputError` when a new detector would take the place of the one in `folder`, or of anything else."""
    if successor.resolve() == folder.resolve():
        raise InputError(
            f"the new detector would take the place of the one that it is made from, '{folder}'; give "
            "calibration.output another folder, or calibration.detector another detector"
        )
    if is_taken(successor, FACTS) and (successor.is_file() or exported_file(successor) is None):
        raise InputError(f"'{successor}' is there already and is no detector; give calibration.output another folder")
