"""A store of finished work by content: a key says what it depends on, checksums that it is as made."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdad.errors import InputError
from kdad.storage.disk_space import DiskFullError, disk_full_error
from kdad.storage.replacing import describe_this_process, flush_to_disk, one_at_a_time

CHECKSUMS = "checksums.json"
#: Which process made a folder, and when; it is no part of what was made.
MADE_BY = "made_by.json"
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
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    listed = {
        name: {**dict(zip(("bytes", "changed"), _state(path), strict=True)), "sha256": sha256_of(path)}
        for name, path in files.items()
        if name not in (passing, CHECKSUMS)
    }
    (folder / CHECKSUMS).write_text(json.dumps(listed, indent=1), encoding="utf-8")


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


logger = logging.getLogger(__name__)


def content_key(**content: Any) -> str:
    """Return 16 hexadecimal digits that differ whenever any of `content` (anything that JSON can hold) does."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ContentStore:
    """Folders named by keys, in `root`; a folder that exists is complete, on the disk, and known by its checksums."""

    root: Path

    def obtain(self, key: str, build: Callable[[Path], None], progress: str | None = None) -> tuple[Path, bool]:
        """Return the key's folder and whether it was there already; else `build` fills it.

        It is filled under a temporary name by one process at a time: another waits and finds it done. What was half
        built by a process that was killed is still there for the next `build`. What fails leaves nothing, except the
        file named `progress`, by which a build goes on: it goes when the folder is in its place, or when the build
        meets an `InputError`. A folder with a file that is not as it was made (`find_damage`) is named in a warning,
        and filled anew.
        """
        folder = self.root / key
        if not folder.is_dir() or find_damage(folder) is not None:
            self.root.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.root / f"{key}.lock", f"'{folder}'"):
                if not _is_whole(folder):
                    self._build(folder, build, progress)
                    _drop(folder, progress)
                    return folder, False
        _drop(folder, progress)  # left by a process that was killed just before
        return folder, True

    def _build(self, folder: Path, build: Callable[[Path], None], progress: str | None) -> None:
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(exist_ok=True)
        try:
            with disk_full_error(partial):
                build(partial)
                write_checksums(partial, progress)
                (partial / MADE_BY).write_text(describe_this_process(), encoding="utf-8")
                flush_to_disk(partial)
        except Exception as error:
            is_final = isinstance(error, InputError) and not isinstance(error, DiskFullError)
            _clear(partial, None if is_final else progress)
            raise
        os.replace(partial, folder)
        flush_to_disk(self.root, whole=False)


def _is_whole(folder: Path) -> bool:
    """Tell whether a folder is there and as it was made; one that is not goes, with a warning."""
    if not folder.is_dir():
        return False
    damage = find_damage(folder)
    if damage is None:
        return True
    logger.warning("Finished work is damaged, and is made again: %s", damage)
    shutil.rmtree(folder)
    return False


def _drop(folder: Path, progress: str | None) -> None:
    if progress is not None:
        (folder / progress).unlink(missing_ok=True)


def _clear(partial: Path, kept: str | None) -> None:
    """Remove a folder, or all in it but the file named `kept`."""
    if kept is None or not (partial / kept).exists():
        shutil.rmtree(partial, ignore_errors=True)
        return
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != kept:
            path.unlink()


@dataclass(frozen=True)
class Stores:
    """Where finished work lies: frozen networks' outputs, trained networks, and what cases made of them."""

    features: Path
    models: Path
    cases: Path

    @classmethod
    def below(cls, folder: Path) -> "Stores":
        """Return stores in subfolders of `folder`."""
        return cls(folder / "features", folder / "models", folder / "cases")
