"""A durable record of what is done: a line of JSON for each file, on the disk before the file counts as done."""

import json
import os
from pathlib import Path
from typing import IO, Any

from kdad.errors import InputError
from kdad.storage.replacing import flush_to_disk


class Journal:
    """An append-only file whose first line says what all others belong to; `earlier` is what it held when opened.

    A process that is killed while it appends leaves the beginning of a line, which the next removes. Raises
    `InputError` for a journal that belongs to something else, or is none.
    """

    def __init__(self, path: Path, heading: dict[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _complete_lines(path)
        self.earlier: list[dict[str, Any]] = []
        if known:
            found, *self.earlier = known
            _check_heading(path, found, heading)
        self._file: IO[bytes] = path.open("ab")
        if not known:
            self._write(heading)
            flush_to_disk(path.parent, whole=False)  # its name

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry; when this returns, it is on the disk."""
        self._write(entry)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")  # ASCII: no name of a file breaks a line
        self._file.flush()
        os.fsync(self._file.fileno())


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a journal says, and cut off a line that was not finished; nothing where there is none."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is no mapping")
    except ValueError as error:
        raise InputError(
            f"'{path}' is not as it was written ({error}); take an undamaged copy, or give inference.output another "
            "folder"
        ) from error
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
    return lines


def _check_heading(path: Path, found: dict[str, Any], heading: dict[str, Any]) -> None:
    other = [name for name, value in heading.items() if found.get(name) != value]
    if other:
        was = ", ".join(f"{name} {found.get(name)}" for name in other)
        now = ", ".join(f"{name} {heading[name]}" for name in other)
        raise InputError(
            f"'{path.parent}' holds what was judged with {was}, and this watch has {now}; give inference.output a new "
            "folder, or go on as before"
        )
