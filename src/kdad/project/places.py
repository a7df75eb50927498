"""Whose a place below ``data/`` is, so that images of equal names from other roots do not overwrite each other's."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.replacing import replace_text

RECORD = "root.txt"


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
