"""The files below a folder: images, and what else lies there and is not used."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.extensions import is_image


@dataclass(frozen=True)
class Unused:
    """A file or folder that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FoundFiles:
    """The image files below `base`, sorted, and what else there is."""

    base: Path
    images: list[Path]
    unused: list[Unused] = field(default_factory=list)

    def inside(self, path: Path) -> tuple[str, ...]:
        """Return the names of the folders between the base and a file."""
        return path.relative_to(self.base).parts[:-1]


def find_files(base: Path) -> FoundFiles:
    """List what lies below `base`, at any depth; links are followed, but not in a circle."""
    images: list[Path] = []
    unused: list[Unused] = []
    for path, reason in _walk(base, (os.path.realpath(base),)):
        if reason is None:
            images.append(path)
        else:
            unused.append(Unused(path, reason))
    return FoundFiles(base, sorted(images), sorted(unused, key=lambda found: found.path))


def count_reasons(unused: list[Unused]) -> list[tuple[str, int, Path]]:
    """Return each reason, how many files it keeps from use, and the first of them."""
    counted = Counter(found.reason for found in unused)
    first = {found.reason: found.path for found in reversed(unused)}
    return [(reason, count, first[reason]) for reason, count in counted.most_common()]


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's own folders, sorted, without hidden ones."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror}); let it be read") from error


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, str | None]]:
    """Yield every file with the reason why it is not used, None for an image; `above` are the real folders around."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"cannot be opened ({error.strerror})"
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            yield path, "hidden"
        elif entry.is_dir():
            real = os.path.realpath(path)
            if real in above:
                yield path, "a link in a circle"
            else:
                yield from _walk(path, (*above, real))
        elif not entry.is_file():
            yield path, "a link to a file that is not there" if entry.is_symlink() else "no file"
        elif not is_image(path):
            yield path, f"no image ({path.suffix.lower() or 'no extension'})"
        else:
            yield path, None
