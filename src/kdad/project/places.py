"""Where results lie below ``data/``, and whose they are; where a kept detector lies that is asked for."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters, tiles_suffix
from kdad.parameters.strict import as_list
from kdad.parameters.written_names import folder_name, plain_name
from kdad.scoring.parameters import RULES_WITHOUT_VALUE
from kdad.storage.replacing import read_facts, replace_text, replacing
from kdad.tracking.fetching import fetch_model_detector, fetch_run_detector

if TYPE_CHECKING:
    from kdad.detectors.predictor import Predictor


RECORD = "root.txt"
#: The folder of a project that results are written below, unless the global `outputs` says otherwise.
DATA = "data"

#: What results lie below, by pipeline.
RESULTS = {"inference": "inference", "comparison": "compared", "calibration": "calibrated", "export": "exported"}

#: The name of the detector that was made last.
LATEST = "latest"
_MODELS, _FACTS = "06_models", "detector.json"
#: Systems whose pipeline leaves one detector, in a folder of its name; that of tables leaves one a row.
_OWN_PIPELINES = SYSTEMS.keys() - {"baselines"}


def path_from_here(path: Path) -> Path:
    """Return a path as people read it: from the working directory, where it lies below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@dataclass(frozen=True)
class OutputFolder:
    """A place ``<data set>/<category>`` in each layer, and the root that its results are of.

    `taken` is the place that would have been its own, if that is of another root.
    """

    place: str
    root: str
    taken: str | None = None


def dataset_claims(data: Path, dataset: DatasetParameters, categories: Iterable[str] = ()) -> dict[str, OutputFolder]:
    """Return the claims of a data set's categories, by category: its own, and those of `categories` (as folders).

    The places are ``<name>/<category>``, or ``<name>-<digest of the root>/<category>`` for all of them when any is of
    another root. Embedded sets have no root and claim nothing.
    """
    root, names = dataset.origin, [dataset.category_name, *categories]
    if root is None:
        return {name: OutputFolder(f"{dataset.name}/{name}", "") for name in names}
    places = {name: (f"{dataset.name}/{name}", f"{dataset.name}-{_digest(root)}/{name}") for name in names}
    return dict(zip(places, _claims(data, root, list(places.values())), strict=True))


def folder_claim(data: Path, kind: str, folder: Path) -> OutputFolder:
    """Return the claim of results named after a folder: ``<kind>/<its last name>``, with a digest where that is taken.

    `kind` is what all results of that kind lie below, such as ``inference``.
    """
    root, plain = str(folder), f"{kind}/{folder.name or 'root'}"
    return _claims(data, root, [(plain, f"{plain}-{_digest(root)}")])[0]


def _claims(data: Path, root: str, places: list[tuple[str, str]]) -> list[OutputFolder]:
    """Return the first place of each pair, or all second ones where a first is another root's, or a second its own."""
    free = [find_owner(data, plain) in (None, root) for plain, _ in places]
    if all(free) and not any(find_owner(data, apart) == root for _, apart in places):
        return [OutputFolder(plain, root) for plain, _ in places]
    return [
        OutputFolder(apart, root, None if is_free else plain)
        for (plain, apart), is_free in zip(places, free, strict=True)
    ]


def find_owner(data: Path, place: str) -> str | None:
    """Return the root that a place's results are of; None where none has claimed it."""
    record = _record(data, place)
    return record.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n") if record.is_file() else None


def reserve(data: Path, claim: OutputFolder) -> bool:
    """Record whose a place is, and return whether it was nobody's.

    Raises `InputError` when another root has taken it since the claim was made.
    """
    owner = find_owner(data, claim.place)
    if not claim.root or owner == claim.root:
        return False
    if owner is not None:
        raise InputError(
            f"'{claim.place}' has just been taken by a run on '{owner}'; give the same command again, and the results "
            f"of '{claim.root}' go to a place of their own"
        )
    record = _record(data, claim.place)
    record.parent.mkdir(parents=True, exist_ok=True)
    replace_text(record, f"{claim.root}\n")
    return True


def release(data: Path, claim: OutputFolder) -> None:
    """Forget whose a place is: nothing has come of it."""
    _record(data, claim.place).unlink(missing_ok=True)


def _record(data: Path, place: str) -> Path:
    return data / "02_intermediate" / place / RECORD


def _digest(root: str) -> str:
    return hashlib.sha256(root.encode(errors="surrogateescape")).hexdigest()[:6]


def results_place(
    pipeline: str, parameters: dict[str, Any], data: Path = Path(DATA), project: Path | None = None
) -> str:
    """Return where `inference`, `comparison`, `calibration` or `export` leaves its results, by what it was given.

    `data` holds the records of which images a place's results are of; it lies in `project`, by default its parent.
    """
    block = parameters[pipeline]
    project = data.parent if project is None else project
    outputs = data.relative_to(project).as_posix()
    if block.get("output"):
        return str(Path(block["output"]).expanduser())
    if pipeline == "inference":
        claim = inference_claim(block, data)
        kind = _kind_of_results(block)
        return f"{outputs}/08_reporting/{f'{kind}/validation' if claim is None else claim.place}"
    if pipeline == "comparison":
        images = Path(block.get("images") or "images").expanduser().resolve()
        given = as_list(block.get("detectors") or [], list[str])
        both = [_detector_location(location, data, project) for location in given]
        name = f"{images.name or 'root'}-{_digest(f'{both} {images}')}"
        return f"{outputs}/08_reporting/{RESULTS[pipeline]}/{folder_name(name)}"
    detector = _detector_location(block["detector"], data, project)
    parts = _detector_parts(detector if block["detector"] == LATEST else block["detector"])
    place = f"{outputs}/06_models/{RESULTS[pipeline]}/{folder_name('_'.join(parts))}"
    if pipeline == "export":
        return f"{place}/onnx_{block['precision']}"
    # Detectors and folders of one name are many: the digest is of where both lie.
    images = Path(block["images"]).expanduser().resolve() if block.get("images") else Path("validation")
    place += f"/{images.name or 'root'}-{_digest(f'{detector} {images}')}"
    rule, value = block["rule"], block.get("value")
    alone = value is None or rule in RULES_WITHOUT_VALUE
    name, tiles = rule if alone else f"{rule}_{value}", block.get("tiles")
    if tiles is not None:
        name += tiles_suffix(tiles.get("size"), tiles.get("overlap"))
    return f"{place}/{name}"


def inference_claim(block: dict[str, Any], data: Path) -> OutputFolder | None:
    """Return the claim of what `inference` makes of images; None with an output of its own, or without images."""
    images = block.get("images")
    if block.get("output") or not images:
        return None
    return folder_claim(data, _kind_of_results(block), Path(images).expanduser().resolve())


def _kind_of_results(block: dict[str, Any]) -> str:
    """Return what predictions lie below; those of a watch, which grow, apart from those that are replaced."""
    return "watched" if block.get("watch") else RESULTS["inference"]


def _detector_location(location: str, data: Path, project: Path) -> str:
    """Return where a detector lies, in full; a name of MLflow, or ``latest`` where there is none, as it is."""
    location = str(location)
    if location == LATEST:
        try:
            return str(find_latest(data, project)[0].resolve())
        except InputError:  # which is said when the detector is opened
            return location
    if location.startswith(("models:/", "runs:/")):
        return location
    return str(given_folder(location, project).resolve())


def given_folder(location: str, project: Path) -> Path:
    """Return the folder that is meant: a relative one is of the project, or else of the working directory."""
    folder = Path(location).expanduser()
    inside = project / folder
    return inside if inside.exists() else folder.absolute()


def find_latest(data: Path, project: Path | None = None) -> tuple[Path, str]:
    """Return the folder of the detector that the last run of a system's own pipeline made, and say so in words.

    Those of tables (`baselines`) are none. Raises `InputError` where there is none, and where several may be meant: the
    last run made several, or one of them was calibrated anew since.
    """
    project, models = data.parent if project is None else project, data / _MODELS
    found = [path for path in models.glob(f"*/*/*/detector/{_FACTS}") if path.parent.parent.name in _OWN_PIPELINES]
    if not found:
        raise InputError(
            f"there is no detector in '{models.relative_to(project)}' yet; run a pipeline that makes one, such as "
            "`kedro run`, or give its folder"
        )
    last = max(found, key=_written)
    run = _record_of(last).get("mlflow_run")
    made = [p for p in found if _written(p) == _written(last) or (run and _record_of(p).get("mlflow_run") == run)]
    newer = [
        path
        for path in models.glob(f"{RESULTS['calibration']}/**/detector/{_FACTS}")
        if _written(path) >= _written(last)
    ]
    of_them = {str(path.parent.resolve()) for path in made}
    made += [path for path in newer if str(_record_of(path).get("calibrated_from")) in of_them]
    if len(made) > 1:
        listed = "\n".join(f"  {path.parent.relative_to(project)}" for path in sorted(made))
        raise InputError(f"'{LATEST}' may be any of {len(made)} detectors; give the folder of one:\n{listed}")
    return last.parent, f"the last that a system's pipeline made, of {len(found)} below {models.relative_to(project)}"


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _record_of(path: Path) -> dict[str, Any]:
    return read_facts(path).get("made_by", {})  # what is wrong with it is said when it is opened


def _detector_parts(location: str) -> list[str]:
    """Return what names a detector best: the last folders on the way to it, or the ID of its run, or its model."""
    location = str(location)
    if location.startswith("models:/"):
        return [plain_name(location.removeprefix("models:/"))]
    parts = [part for part in location.removeprefix("runs:").split("/") if part not in ("", ".", "..")]
    return (parts[:-1] if len(parts) > 1 and parts[-1] == "detector" else parts)[-3:] or ["detector"]


#: Below the project: detectors that MLflow had.
_DOWNLOADED = Path("data/06_models/downloaded")
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
    target = project / _DOWNLOADED / name
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
