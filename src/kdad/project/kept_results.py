"""Detectors and reports that a run replaces: kept beside the new ones, and compared with them.

A kept result is a folder ``<data set>/<category>/runs/<when it was made>_<system>`` below ``06_models``, which holds
``detector`` and ``reports``. No pipeline reads it unless it is given.
"""

import filecmp
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kdad.metrics.names import METRICS
from kdad.storage.replacing import link_or_copy, read_facts, replacing

RUNS = "runs"
_DETECTOR, _REPORTS, _FACTS = "detector", "reports", "detector.json"
#: Of what made a detector: what it was made from. When, by which commit and in which run makes no other detector.
_ORIGIN = ("dataset", "category", "root", "images", "test_images", "seed")
_MADE_ANEW = ("made_by", "sha256", "package")
#: What detectors share whose figures stand in one table: the images by content, and how they are split.
_COMPARED_BY = ("images", "test_images", "training_images", "validation_images", "seed")


@dataclass(frozen=True)
class Result:
    """A detector's folder and system, and what is compared: image AUROC (None if unknown), and the test images."""

    detector: Path
    system: str | None
    image_auroc: float | None
    test_images: str | None

    @classmethod
    def read(cls, detector: Path) -> "Result":
        """Read the record; of one that cannot be read nothing is known."""
        facts = _read(detector)
        made_by = facts.get("made_by", {})
        images = made_by.get("test_images") or made_by.get("images")
        return cls(detector, facts.get("system"), made_by.get("metrics", {}).get("image_auroc"), images)


def keep_results(detector: Path, reports: Path) -> Path | None:
    """Copy a detector and its reports beside it, large files by a second name; None where there is no detector.

    What was kept before, as its run was killed, is not kept twice.
    """
    if not (detector / _FACTS).is_file():
        return None
    name = f"{_made(detector)}_{detector.parent.name}"
    target, number = detector.parent.parent / RUNS / name, 1
    while target.exists():
        if filecmp.cmp(target / _DETECTOR / _FACTS, detector / _FACTS, shallow=False):
            return target
        number += 1
        target = target.with_name(f"{name}-{number}")
    with replacing(target) as partial:
        shutil.copytree(detector, partial / _DETECTOR, copy_function=link_or_copy)
        if reports.is_dir():  # whose files are written in place, so that a second name would be overwritten
            shutil.copytree(reports, partial / _REPORTS)
    return target


def drop_if_remade(kept: Path, detector: Path) -> bool:
    """Remove a kept result when the detector that took its place is the same one, and tell whether it is."""
    same = _substance(kept / _DETECTOR) == _substance(detector)
    if same:
        _drop(kept)
    return same


def drop_if_untouched(kept: Path, detector: Path, reports: Path) -> None:
    """Remove a kept result when a run that failed has replaced nothing of it."""
    pairs = {kept / _DETECTOR: detector, kept / _REPORTS: reports}
    if all(
        # By size and time where these are the same, as they are for copies and for second names of one file.
        (now / path.relative_to(before)).is_file() and filecmp.cmp(path, now / path.relative_to(before))
        for before, now in pairs.items()
        for path in before.rglob("*")
        if path.is_file()
    ):
        _drop(kept)


def better_than(detector: Path) -> Result | None:
    """Return the kept result of the same system and test images whose image AUROC is best, if it beats `detector`'s."""
    latest = Result.read(detector)
    if latest.image_auroc is None or latest.test_images is None:
        return None
    kept = map(Result.read, sorted((detector.parent.parent / RUNS).glob(f"*/{_DETECTOR}")))
    better = [
        result
        for result in kept
        if (result.system, result.test_images) == (detector.parent.name, latest.test_images)
        and (result.image_auroc or 0.0) > latest.image_auroc
    ]
    return max(better, key=lambda result: result.image_auroc or 0.0, default=None)


def newest_record(place: Path, system: str, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the newest detector of a system remembers, the latest or a kept one; None where there is none.

    `place` is ``06_models/<data set>/<category>``. The detector must be of the same images and split as `origin`, which
    is such a record too, and have its figures.
    """
    folders = [place / system / _DETECTOR, *place.glob(f"{RUNS}/*_{system}*/{_DETECTOR}")]
    records: list[dict[str, Any]] = [
        facts.get("made_by", {}) for facts in map(_read, folders) if facts.get("system") == system
    ]
    same = [
        record
        for record in records
        if all(record.get(name) == origin[name] for name in _COMPARED_BY) and record.get("metrics")
    ]
    return max(same, key=lambda record: str(record.get("made")), default=None)


def _drop(kept: Path) -> None:
    shutil.rmtree(kept)
    if not any(kept.parent.iterdir()):
        kept.parent.rmdir()


def _made(detector: Path) -> str:
    """Return when a detector was made, as a part of a name; by its record, or else by its file."""
    try:
        made = datetime.fromisoformat(_read(detector)["made_by"]["made"])
    except (KeyError, TypeError, ValueError):
        made = datetime.fromtimestamp((detector / _FACTS).stat().st_mtime)
    return made.strftime("%Y-%m-%d_%H-%M-%S")


def _substance(detector: Path) -> dict[str, Any] | None:
    facts = _read(detector)
    if not facts:
        return None
    made_by = facts["made_by"]
    origin = [made_by.get(name) for name in _ORIGIN]
    measured = [made_by.get("metrics", {}).get(name) for name in METRICS]  # not seconds and memory
    kept = {name: value for name, value in facts.items() if name not in _MADE_ANEW}
    return kept | {"origin": origin, "measured": measured}


def _read(detector: Path) -> dict[str, Any]:
    facts = read_facts(detector / _FACTS)  # what is wrong with it is said where a detector is opened
    return facts if isinstance(facts.get("made_by"), dict) else {}
