"""What a server writes down: a line of JSON for each image that was judged, and images that people say are good."""

import csv
import io
import json
import logging
import os
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.storage.disk_space import disk_full, disk_full_error

_LOGGER = logging.getLogger("kdad.audit")
_BYTES, _FILES = 10_000_000, 10


class _StrictHandler(RotatingFileHandler):
    """Raises what keeps a line from being written: what is not in the log is not answered."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        raise  # logging calls it while it handles the error


def open_audit(path: str | Path) -> None:
    """Let `write_judgement` write to this file, which is renamed at 10 MB; ten such are kept.

    Raises `InputError` for a file that cannot be written.
    """
    place = Path(path).expanduser()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handler = _StrictHandler(place, maxBytes=_BYTES, backupCount=_FILES, encoding="utf-8")
    except OSError as error:
        raise InputError(f"serving.audit: '{place}' cannot be written ({error.strerror}); give another file") from error
    close_audit()
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.INFO)


def close_audit() -> None:
    """Close the file."""
    for handler in list(_LOGGER.handlers):
        _LOGGER.removeHandler(handler)
        handler.close()


def write_judgement(facts: dict[str, Any]) -> None:
    """Write what was said of an image, with the time."""
    _LOGGER.info(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}))


INDEX = "index.csv"
_COLUMNS = ("file", "time", "who", "score", "threshold", "decision", "detector", "detector_digest")


def open_folder(folder: Path) -> None:
    """Make the folder; raises `InputError` where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).open("ab").close()
    except OSError as error:
        raise InputError(
            f"serving.teach: '{folder}' cannot be written ({error.strerror}); give another folder"
        ) from error


def keep_good(folder: Path, name: str, content: bytes, facts: dict[str, Any]) -> bool:
    """Write the file of an image, and a line of the folder's index; return False where it is kept already.

    The name says the content, so that no other image is overwritten. Raises `DiskFullError`, and leaves then neither.
    """
    image, partial = folder / name, folder / f".{name}.partial"
    if image.exists():
        return False
    with disk_full_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _append(folder / INDEX, {"file": name, **facts})
            partial.rename(image)
        finally:
            partial.unlink(missing_ok=True)
    return True


def _append(index: Path, facts: dict[str, Any]) -> None:
    """Add a line, whole or not at all."""
    with index.open("ab", buffering=0) as file:
        before, text = file.tell(), io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS)
        if not before:
            writer.writeheader()
        writer.writerow(facts)
        line = text.getvalue().encode()
        written = 0
        try:
            written = file.write(line)
        finally:
            if written < len(line):
                file.truncate(before)
        if written < len(line):
            raise disk_full(index)
