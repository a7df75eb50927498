"""Locks between processes, and files and folders that take their place whole, or not at all."""

import errno
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from kdad.errors import InputError
from kdad.storage.disk_space import disk_full_error

logger = logging.getLogger(__name__)

#: What a system says of a file that may not be written: by its owner's will, or as the whole disk is for reading.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: What a file system says that knows no locks.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_POLL_SECONDS = 0.2
_LONGEST_COMMAND = 200


class ProcessLock:
    """A lock by the name of a file, of one process (and one thread) at a time.

    Workers forked while it is held neither hold nor free it. Where the disk knows no locks, it warns and lets pass.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path, thread_local=False, fallback_to_soft=False, poll_interval=_POLL_SECONDS)

    def take(self, wait: bool) -> bool:
        """Take the lock, waiting for its holder if `wait`; return whether it was taken.

        Raises `InputError` when its file may not be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=wait)
        except Timeout:
            return False
        except OSError as error:
            if error.errno in _FORBIDDEN:
                message = f"'{self.path}' may not be written; use a folder, or a checkout, of your own"
                raise InputError(message) from error
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("The disk of '%s' knows no locks: run one process at a time there", self.path.parent)
            return True
        with suppress(OSError):  # a full disk: then the holder is not named
            self.path.write_text(describe_this_process(), encoding="utf-8")
        return True

    def free(self) -> None:
        """Give the lock back, if this process holds it; its file goes."""
        if self._lock.is_locked:
            self.path.unlink(missing_ok=True)  # while it is held: who waits for it finds out, and makes a file anew
            self._lock.release()

    def holder(self) -> str:
        """Say which process holds the lock, what its command is, and since when."""
        with suppress(OSError, ValueError):  # it has just come, or gone
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            if psutil.pid_exists(holder["pid"]):  # else it was killed, and another has just come
                return f"process {holder['pid']} (`{holder['command']}`, since {holder['since']})"
        return "another process"


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of this file, which then goes; a wait for another process is said in one line, naming `what`."""
    lock = ProcessLock(path)
    if not lock.take(wait=False):
        logger.info("Waiting for %s, which is making %s", lock.holder(), what)
        lock.take(wait=True)
    try:
        yield
    finally:
        lock.free()


def describe_this_process() -> str:
    """Return JSON of the process's number, its command, and the time."""
    program, *arguments = sys.orig_argv or ["python"]
    command = shlex.join([Path(program).name, *arguments])
    command = command if len(command) <= _LONGEST_COMMAND else command[: _LONGEST_COMMAND - 3] + "..."
    return json.dumps({"pid": os.getpid(), "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")})


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


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name, whose file takes the place of `path` when all went well; else an older one stays.

    A full disk is a `DiskFullError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with disk_full_error(path):
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as a whole; a full disk is a `DiskFullError`."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_facts(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
