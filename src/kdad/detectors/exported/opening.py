"""Opening an exported file, of whichever format."""

from pathlib import Path

from kdad.detectors.exported.detector import ExportedDetector
from kdad.detectors.exported.facts import ExportedFacts, read_texts
from kdad.detectors.exported.folder import format_of
from kdad.detectors.exported.runtime import kind_of
from kdad.errors import InputError


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
