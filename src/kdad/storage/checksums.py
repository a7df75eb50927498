"""Checksums of a folder of finished work: taken when it is made, compared whenever it is opened."""

import hashlib
import json
from pathlib import Path
from typing import Any

CHECKSUMS = "checksums.json"
#: A larger file is hashed when it is made, and again where its size or time of change is another than then.
_LARGE = 1 << 26  # bytes: a twentieth of a second
#: What this process has found whole, by folder: the files' sizes and times, so that nothing is hashed twice.
_FOUND_WHOLE: dict[Path, dict[str, tuple[int, int]]] = {}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path, passing: str | None = None) -> None:
    """Write ``checksums.json``: size, time of change and SHA-256 of each file below `folder`.

    The file named `passing` is left out, which goes when the folder is in its place.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (passing, CHECKSUMS):
            size, changed = _state(path)
            found[name] = {"bytes": size, "changed": changed, "sha256": sha256_of(path)}
    (folder / CHECKSUMS).write_text(json.dumps(found, indent=1), encoding="utf-8")


def find_damage(folder: Path) -> str | None:
    """Say which file of `folder` is not as it was made, and how; None when all are.

    Each file is hashed once a process, and again when its size or time has changed; one of more than 64 MB is hashed
    only where size or time are not those of its making. Files beyond the list are not looked at.
    """
    try:
        listed = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        wanted = {name: (facts["bytes"], facts["changed"], facts["sha256"]) for name, facts in listed.items()}
    except FileNotFoundError:
        return f"'{folder / CHECKSUMS}' is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"'{folder / CHECKSUMS}' cannot be read"
    known = _FOUND_WHOLE.setdefault(folder.resolve(), {})
    for name, facts in wanted.items():
        path = folder / name
        try:
            problem = _differs(path, facts, known.get(name))
        except OSError as error:
            problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        if problem is not None:
            known.pop(name, None)
            return f"'{path}' {problem}"
        known[name] = _state(path)
    return None


def _differs(path: Path, wanted: tuple[int, int, str], known: tuple[int, int] | None) -> str | None:
    size, changed, digest = wanted
    found = _state(path)
    if found[0] != size:
        return f"has {found[0]} bytes instead of {size}"
    if found == known or (size > _LARGE and found == (size, changed)):
        return None
    return None if sha256_of(path) == digest else "has changed: its SHA-256 is another"


def _state(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
