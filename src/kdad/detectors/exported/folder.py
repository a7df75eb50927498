"""Where exported files lie: a folder of their own, filled at once; and which file, of which format, a place has."""

import shutil
from pathlib import Path

from kdad.detectors.exported.parameters import FileFormat
from kdad.detectors.exported.runtime import ENDINGS
from kdad.errors import InputError
from kdad.storage.replacing import replacing

#: What an export's file is called, before its ending.
STEM = "detector"
_WEIGHTS = ".bin"


def exported_file(place: Path) -> Path | None:
    """Return the exported file that a place is, or that a folder holds; None for any other.

    Raises `InputError` for a folder that holds several.
    """
    if place.is_file():
        return place.with_suffix(ENDINGS["openvino"]) if place.suffix == _WEIGHTS else place
    found = [path for ending in ENDINGS.values() if (path := place / f"{STEM}{ending}").is_file()]
    if len(found) > 1:
        raise InputError(f"'{place}' holds {' and '.join(path.name for path in found)}; name one of these files")
    return found[0] if found else None


def keep(built: Path, folder: Path) -> Path:
    """Put the files of `built` into `folder`, in the place of an older export; all or nothing.

    Raises `InputError` when the folder holds anything else.
    """
    taken = folder.exists() and (folder.is_file() or any(folder.iterdir()))
    if taken and (folder.is_file() or exported_file(folder) is None):
        raise InputError(f"'{folder}' is there already and is no exported detector; give a new folder, or remove it")
    with replacing(folder) as partial:
        for path in sorted(built.iterdir()):
            shutil.copy(path, partial / path.name)
    return folder


def format_of(path: Path) -> FileFormat:
    """Return the format that a file's ending names; raises `InputError` for one that is not known."""
    known = {ending: name for name, ending in ENDINGS.items()}
    if path.suffix.lower() not in known:
        said = ", ".join(f"{ending} ({name})" for ending, name in known.items())
        raise InputError(
            f"'{path}' is no detector: it ends in none of {said}; give such a file, or a detector's folder"
        )
    return known[path.suffix.lower()]
