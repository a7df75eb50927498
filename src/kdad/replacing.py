"""Files and folders that take their place whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `folder` when all went well.

    What fails leaves `folder` as it was. A process that is killed may leave ``<name>.partial``, which the next clears.
    """
    partial, older = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "older"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(older, ignore_errors=True)
        if folder.exists():
            os.replace(folder, older)
        try:
            os.replace(partial, folder)
        except BaseException:
            if older.exists():
                os.replace(older, folder)
            raise
        shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


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
