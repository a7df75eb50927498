"""A detector by where it lies: a folder, the latest of this project, or a run of MLflow; and files to judge."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from kdad.detectors.exported.detector import exported_file
from kdad.detectors.folder import FACTS
from kdad.detectors.opening import open_predictor
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.images.found import FoundImages, look_for_images
from kdad.parameters.written_names import plain_name
from kdad.storage.replacing import is_taken, replacing
from kdad.tracking.fetching import fetch_model_detector, fetch_run_detector

_MODELS = Path("data/06_models")
_RUNS = "runs:/"
_REGISTRY = "models:/"
#: A name of the registry with an alias or a version, or a model's ID.
_MODEL = re.compile(r"[^/@:]+(@[\w-]+|/\d+)|m-[0-9a-f]+")
_LATEST = "latest"


class LocatedDetectorDataset(AbstractDataset[None, Predictor]):
    """A detector that was kept: a folder, an exported file, ``latest``, ``runs:/ID``, or ``models:/NAME@ALIAS``.

    A run's is its artifact ``detector``; `tracking` is the MLflow that runs and models are looked for in.
    `successor` is where a detector made from it will be kept, which must be elsewhere.
    """

    def __init__(
        self,
        *,
        location: str,
        project: str,
        tracking: str | None = None,
        successor: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._location, self._project, self._tracking = location, Path(project), tracking
        self._successor = successor
        self.metadata = metadata

    def load(self) -> Predictor:
        """Open the detector; its record says where it was found."""
        folder, how = find_detector(self._location, self._project, self._tracking)
        if self._successor is not None:
            check_successor(folder, self._project / self._successor)
        detector = open_predictor(folder)
        detector.record = detector.record | {"folder": str(folder), "found": how}
        return detector

    def save(self, data: None) -> None:
        """Refuse: this is where detectors are found."""
        raise DatasetError("a detector is kept by the pipeline that makes it")

    def _describe(self) -> dict[str, Any]:
        return {"location": self._location}


class ImageFilesDataset(AbstractDataset[None, FoundImages]):
    """Image files at or below a place; masks below ``ground_truth`` are left out. `setting` is what names the place."""

    def __init__(
        self, *, place: str | None, setting: str, required: bool = True, metadata: dict[str, Any] | None = None
    ) -> None:
        self._place, self._setting, self._required = place, setting, required
        self.metadata = metadata

    def load(self) -> FoundImages | None:
        """List the files, None where no place is given and none is required; raises `InputError` without any."""
        if self._place:
            return look_for_images(Path(self._place).expanduser())
        if self._required:
            raise InputError(f"{self._setting} is not given; name the folder, or the file, that is to be judged")
        return None

    def save(self, data: None) -> None:
        """Refuse: these images are read alone."""
        raise DatasetError("images are read, never written")

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place}


class WatchedFolderDataset(AbstractDataset[None, Path]):
    """A folder in which image files arrive; it may be empty still. `setting` is what names it."""

    def __init__(self, *, place: str | None, setting: str, metadata: dict[str, Any] | None = None) -> None:
        self._place, self._setting = place, setting
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder; raises `InputError` when none is given, or none is there."""
        if not self._place:
            raise InputError(f"{self._setting} is not given; name the folder that is to be watched")
        folder = Path(self._place).expanduser().absolute()
        if not folder.is_dir():
            raise InputError(
                f"{self._setting} is '{folder}', which is no folder; make it, or name the one to be watched"
            )
        return folder

    def save(self, data: None) -> None:
        """Refuse: this is where others put images."""
        raise DatasetError("a watched folder is read, never written")

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place}


def find_detector(location: str, project: Path, tracking: str | None = None) -> tuple[Path, str]:
    """Return the folder of a detector and how it was found; raises `InputError` when there is none at this location.

    A relative folder is one of the project, or else of the working directory. Runs are those of the MLflow at
    `tracking`, by default the one that this process has chosen.
    """
    if location.startswith(_RUNS):
        run = location.removeprefix(_RUNS).strip("/").removesuffix("/detector")
        if not run.isalnum():  # it names a folder here
            raise InputError(f"'{run}' is no ID of an MLflow run; give runs:/ and the ID")
        fetch = partial(fetch_run_detector, run, uri=tracking)
        return _download(f"the run '{run}'", "ID", run, project, fetch), location
    if location.startswith(_REGISTRY):
        model = location.removeprefix(_REGISTRY)
        if not _MODEL.fullmatch(model):
            raise InputError(f"'{location}' is no model of MLflow; give models:/NAME@champion, or models:/NAME/VERSION")
        fetch = partial(fetch_model_detector, model, uri=tracking)
        return _download(f"the model '{model}'", "name", plain_name(model), project, fetch), location
    if location != _LATEST:
        folder = Path(location).expanduser()
        inside = project / folder
        return (inside if inside.exists() else folder.absolute()), "the folder given"
    found = list((project / _MODELS).glob(f"*/*/*/detector/{FACTS}"))
    if not found:
        raise InputError(
            f"there is no detector in '{_MODELS}' yet; run a pipeline that makes one, such as `kedro run`, or give its "
            "folder"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent, f"the latest of {len(found)} below {_MODELS}"


def check_successor(folder: Path, successor: Path) -> None:
    """Raise `InputError` when a new detector would take the place of the one in `folder`, or of anything else."""
    if successor.resolve() == folder.resolve():
        raise InputError(
            f"the new detector would take the place of the one that it is made from, '{folder}'; give "
            "calibration.output another folder, or calibration.detector another detector"
        )
    if is_taken(successor, FACTS) and (successor.is_file() or exported_file(successor) is None):
        raise InputError(f"'{successor}' is there already and is no detector; give calibration.output another folder")


def _download(what: str, known_by: str, name: str, project: Path, fetch: Callable[[Path], Path]) -> Path:
    """Fetch a detector into a folder of that `name`, all of it or nothing."""
    target = project / _MODELS / "downloaded" / name
    try:
        with replacing(target) as partial_folder:
            (partial_folder / "fetched").mkdir()
            shutil.move(fetch(partial_folder / "fetched"), partial_folder / "detector")
            shutil.rmtree(partial_folder / "fetched", ignore_errors=True)
    except InputError:
        raise
    except Exception as error:  # whatever a store, a server or a missing run answers
        reason = str(error).splitlines()[0]
        raise InputError(f"{what} has no detector that could be fetched ({reason}); check its {known_by}") from error
    return target / "detector"
