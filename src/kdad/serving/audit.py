"""The audit log: a line of JSON for each image that was judged, in files that rotate."""

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from kdad.errors import InputError

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
