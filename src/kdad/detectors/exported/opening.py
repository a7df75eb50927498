"""Opening an exported file, of whichever format."""

from pathlib import Path

from kdad.detectors.exported.detector import ExportedDetector
from kdad.detectors.exported.facts import ExportedFacts, read_texts
from kdad.detectors.exported.runtime import ENDINGS, kind_of
from kdad.errors import InputError
from kdad.parameters.export import FileFormat

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


def open_exported(path: Path) -> ExportedDetector:
    """Open an exported file to judge by it.

    Raises `InputError` for a format that is not known, a package that is missing, a file that is cut short, one that
    another program has written, and one of another format of metadata.
    """
    facts = read_exported(path)
    return ExportedDetector(facts, kind_of(facts.file_format).open(path, facts.precision), path)


def read_exported(path: Path) -> ExportedFacts:
    """Return what an exported file says of itself; raises `InputError` as `open_exported`."""
    format = format_of(path)
    facts = read_texts(kind_of(format).read_texts(path), str(path))
    if facts.file_format != format:
        raise InputError(f"'{path}' says that it is of the format {facts.file_format}; give it back its name")
    return facts


def format_of(path: Path) -> FileFormat:
    """Return the format that a file's ending names; raises `InputError` for one that is not known."""
    known = {ending: name for name, ending in ENDINGS.items()}
    if path.suffix.lower() not in known:
        said = ", ".join(f"{ending} ({name})" for ending, name in known.items())
        raise InputError(
            f"'{path}' is no detector: it ends in none of {said}; give such a file, or a detector's folder"
        )
    return known[path.suffix.lower()]
