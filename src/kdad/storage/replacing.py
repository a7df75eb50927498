"""Files and folders that take their place whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdad.storage.disk_space import disk_full_error
from kdad.storage.process_lock import one_at_a_time


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `folder` when all went well; one process at a time fills it.

    What fails leaves `folder` as it was; a full disk is a `DiskFullError`. A process that is killed may leave
    ``<name>.partial``, which the next clears, and ``<name>.older``, which `put_back` puts back.
    """
    partial, older = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "older"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(_lock_of(folder), f"'{folder}'"):
        _put_back(folder, older)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            with disk_full_error(folder):
                yield partial
                flush_to_disk(partial)
            shutil.rmtree(older, ignore_errors=True)
            if folder.exists():
                os.replace(folder, older)
            try:
                os.replace(partial, folder)
            except BaseException:
                _put_back(folder, older)
                raise
            shutil.rmtree(older, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Put back the older folder that a process killed while it replaced `folder` had set aside, if there is one."""
    older = folder.with_name(f"{folder.name}.older")
    if older.exists() and not folder.exists():
        with one_at_a_time(_lock_of(folder), f"'{folder}'"):
            _put_back(folder, older)


def _put_back(folder: Path, older: Path) -> None:
    if older.exists() and not folder.exists():
        os.replace(older, folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def flush_to_disk(folder: Path, whole: bool = True) -> None:
    """Have the disk keep what was written to `folder`: names, and if `whole` all files; a power cut then loses none."""
    for path in folder.rglob("*") if whole else ():
        if not path.is_symlink():
            _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    try:
        opened = os.open(path, os.O_RDONLY)
    except PermissionError:  # of a folder, where the system cannot
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name, then rename it; a full disk is a `DiskFullError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with disk_full_error(path):
            temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_taken(folder: Path, mark: str) -> bool:
    """Tell whether something is there that is neither an empty folder nor one with a file named `mark`."""
    return folder.exists() and not (folder / mark).is_file() and (folder.is_file() or any(folder.iterdir()))


def link_or_copy(source: str | Path, target: str | Path) -> str | Path:
    """Give a file a second name where the disk can, else copy it; returns `target`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
