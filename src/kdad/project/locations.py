"""Where a kept detector lies that is asked for by a folder, ``latest``, or a run or model of MLflow."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kdad.errors import InputError
from kdad.parameters.written_names import plain_name
from kdad.project.places import DATA, LATEST, find_latest, given_folder
from kdad.storage.replacing import replacing
from kdad.tracking.fetching import fetch_model_detector, fetch_run_detector

if TYPE_CHECKING:
    from kdad.detectors.predictor import Predictor

_MODELS = Path("data/06_models")
_RUNS = "runs:/"
_REGISTRY = "models:/"
#: A name of the registry with an alias or a version, or a model's ID.
_MODEL = re.compile(r"[^/@:]+(@[\w-]+|/\d+)|m-[0-9a-f]+")


def find_detector(location: str, project: Path, tracking: str | None = None, outputs: str = DATA) -> tuple[Path, str]:
    """Return the folder of a detector and how it was found; raises `InputError` when there is none at this location.

    Runs are those of the MLflow at `tracking`, by default the one that this process has chosen.
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
    if location != LATEST:
        return given_folder(location, project), "the folder given"
    return find_latest(project / outputs, project)


def open_found(folder: Path, how: str) -> "Predictor":
    """Open a detector that was found, whose record says where and how; raises `InputError` as `detectors.load`."""
    from kdad.detectors.opening import open_predictor  # late: a run that only looks for one takes no torch

    detector = open_predictor(folder)
    detector.record = detector.record | {"folder": str(folder), "found": how}
    return detector


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
