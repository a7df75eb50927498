"""Where results lie below ``data/``, and whose they are: those of roots of equal names do not overwrite each other."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters, tiles_suffix
from kdad.parameters.written_names import folder_name, plain_name
from kdad.scoring.parameters import RULES_WITHOUT_VALUE
from kdad.storage.replacing import replace_text

RECORD = "root.txt"

#: What results lie below, by pipeline.
RESULTS = {"inference": "inference", "calibration": "calibrated", "export": "exported"}


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
    plain, root = dataset.name, dataset.origin
    names = [dataset.category_name, *categories]
    if root is None:
        return {name: OutputFolder(f"{plain}/{name}", "") for name in names}
    apart = f"{plain}-{_digest(root)}"
    is_known = any(find_owner(data, f"{apart}/{name}") == root for name in names)
    if not is_known and all(_is_free(data, f"{plain}/{name}", root) for name in names):
        return {name: OutputFolder(f"{plain}/{name}", root) for name in names}
    return {
        name: OutputFolder(
            f"{apart}/{name}", root, None if _is_free(data, f"{plain}/{name}", root) else f"{plain}/{name}"
        )
        for name in names
    }


def folder_claim(data: Path, kind: str, folder: Path) -> OutputFolder:
    """Return the claim of results named after a folder: ``<kind>/<its last name>``, with a digest where that is taken.

    `kind` is what all results of that kind lie below, such as ``inference``.
    """
    root, plain = str(folder), f"{kind}/{folder.name or 'root'}"
    apart = f"{plain}-{_digest(root)}"
    if find_owner(data, apart) != root and _is_free(data, plain, root):
        return OutputFolder(plain, root)
    return OutputFolder(apart, root, None if _is_free(data, plain, root) else plain)


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


def _is_free(data: Path, place: str, root: str) -> bool:
    return find_owner(data, place) in (None, root)


def _record(data: Path, place: str) -> Path:
    return data / "02_intermediate" / place / RECORD


def _digest(root: str) -> str:
    return hashlib.sha256(root.encode(errors="surrogateescape")).hexdigest()[:6]


def results_place(pipeline: str, parameters: dict[str, Any], data: Path = Path("data")) -> str:
    """Return where `inference`, `calibration` or `export` leaves its results, named after what it was given.

    `data` holds the records of which images a place's results are of.
    """
    block = parameters[pipeline]
    if block.get("output"):
        return str(Path(block["output"]).expanduser())
    if pipeline == "export":
        name = folder_name("_".join(_detector_parts(block["detector"])))
        return f"data/06_models/{RESULTS[pipeline]}/{name}/onnx_{block['precision']}"
    claim = results_claim(pipeline, block, data)
    place = f"{_kind_of_results(pipeline, block)}/validation" if claim is None else claim.place
    if pipeline == "inference":
        return f"data/08_reporting/{place}"
    rule, value = block["rule"], block.get("value")
    alone = value is None or rule in RULES_WITHOUT_VALUE
    name, tiles = rule if alone else f"{rule}_{value}", block.get("tiles")
    if tiles is not None:
        name += tiles_suffix(tiles.get("size"), tiles.get("overlap"))
    return f"data/06_models/{place}/{name}"


def results_claim(pipeline: str, block: dict[str, Any], data: Path) -> OutputFolder | None:
    """Return the claim of what `inference` or `calibration` makes of images; None with an output, or no images."""
    images = None if pipeline == "export" else block.get("images")
    if block.get("output") or not images:
        return None
    return folder_claim(data, _kind_of_results(pipeline, block), Path(images).expanduser().resolve())


def _kind_of_results(pipeline: str, block: dict[str, Any]) -> str:
    """Return what results lie below; those of a watch, which grow, apart from those that are replaced."""
    return "watched" if pipeline == "inference" and block.get("watch") else RESULTS[pipeline]


def _detector_parts(location: str) -> list[str]:
    """Return what names a detector best: the last folders on the way to it, or the ID of its run, or its model."""
    location = str(location)
    if location.startswith("models:/"):
        return [plain_name(location.removeprefix("models:/"))]
    parts = [part for part in location.removeprefix("runs:").split("/") if part not in ("", ".", "..")]
    return (parts[:-1] if len(parts) > 1 and parts[-1] == "detector" else parts)[-3:] or ["detector"]
