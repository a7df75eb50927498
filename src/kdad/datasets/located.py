"""A detector by where it lies: a folder, the latest of this project, or a run of MLflow; and files to judge."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from kdad.detectors.detector import Detector
from kdad.detectors.folder import FACTS
from kdad.detectors.registry import open_detector
from kdad.errors import InputError
from kdad.images.labels import without_masks
from kdad.images.reading import find_images

_MODELS = Path("data/06_models")
_RUNS = "runs:/"


class LocatedDetectorDataset(AbstractDataset[None, Detector]):
    """A detector that was kept: a folder, ``latest``, or ``runs:/ID``, the artifact ``detector`` of that run."""

    def __init__(self, *, location: str, project: str, metadata: dict[str, Any] | None = None) -> None:
        self._location, self._project = location, Path(project)
        self.metadata = metadata

    def load(self) -> Detector:
        """Open the detector; its record says where it was found."""
        folder = find_detector(self._location, self._project)
        detector = open_detector(folder)
        detector.record = detector.record | {"folder": str(folder)}
        return detector

    def save(self, data: None) -> None:
        """Refuse: this is where detectors are found."""
        raise DatasetError("a detector is kept by the pipeline that makes it")

    def _describe(self) -> dict[str, Any]:
        return {"location": self._location}


class ImageFilesDataset(AbstractDataset[None, list[tuple[str, Path]]]):
    """Image files at or below a place, with their names from there; masks below ``ground_truth`` are left out."""

    def __init__(self, *, place: str | None, required: bool = True, metadata: dict[str, Any] | None = None) -> None:
        self._place, self._required = place, required
        self.metadata = metadata

    def load(self) -> list[tuple[str, Path]] | None:
        """List the files, None where no place is given and none is required; raises `InputError` without any."""
        if self._place is None and not self._required:
            return None
        if self._place is None:
            raise InputError("inference.images is not given; name the folder, or the file, that is to be judged")
        place = Path(self._place).expanduser()
        base = place.parent if place.is_file() else place
        return [(path.relative_to(base).as_posix(), path) for path in without_masks(find_images(place), base)]

    def save(self, data: None) -> None:
        """Refuse: these images are read alone."""
        raise DatasetError("images are read, never written")

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place}


def find_detector(location: str, project: Path) -> Path:
    """Return the folder of a detector; raises `InputError` when there is none at this location."""
    if location.startswith(_RUNS):
        return _download(location.removeprefix(_RUNS).strip("/"), project)
    if location != "latest":
        folder = Path(location).expanduser()
        return folder if folder.is_absolute() else project / folder
    found = list((project / _MODELS).glob(f"*/*/*/detector/{FACTS}"))
    if not found:
        raise InputError(
            f"there is no detector in '{_MODELS}' yet; run a pipeline that makes one, such as `kedro run`, or give its "
            "folder"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _download(run: str, project: Path) -> Path:
    """Fetch the artifact ``detector`` of an MLflow run."""
    import mlflow

    target = project / _MODELS / "downloaded" / run
    target.mkdir(parents=True, exist_ok=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(f"{_RUNS}{run}/detector", dst_path=str(target)))
    except Exception as error:  # whatever a store, a server or a missing run answers
        reason = str(error).splitlines()[0]
        raise InputError(f"the run '{run}' has no detector that could be fetched ({reason}); check its ID") from error
