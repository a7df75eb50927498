"""What a layout is, the files that it is made of, and which categories there are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.reading import is_image
from kdad.images.image_set import Subset
from kdad.images.layouts.names import NORMAL, WRAPPERS, Vocabulary, part_of, plain
from kdad.parameters.strict import nearest_name


@dataclass(frozen=True)
class Unused:
    """A file or folder that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFile:
    """An image of a kind ("good" is normal) and part; `called` is the folder or word that said so, if any."""

    path: Path
    kind: str
    subset: Subset
    called: str | None = None
    masks: tuple[Path, ...] = ()

    @property
    def is_normal(self) -> bool:
        """Whether it is of the normal kind."""
        return self.kind == NORMAL


@dataclass
class Layout:
    """The images of a set in order; `name` says how they lie, `notes` what was decided, `problems` what is wrong."""

    name: str
    images: list[ImageFile]
    problems: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FoundFiles:
    """The image files below `base`, sorted, and what else there is."""

    base: Path
    images: list[Path]
    unused: list[Unused]

    def inside(self, path: Path) -> tuple[str, ...]:
        """Return the names of the folders between the base and a file."""
        return path.relative_to(self.base).parts[:-1]


def find_files(base: Path) -> FoundFiles:
    """List what lies below `base`, at any depth; links are followed, but not in a circle."""
    files = sorted(_walk(base, (os.path.realpath(base),)), key=lambda file: file.path)
    return FoundFiles(base, [file.path for file in files if not file.reason], [file for file in files if file.reason])


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's own folders, sorted, without hidden ones."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror}); let it be read") from error


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Unused]:
    """Yield every file with the reason why it is not used, empty for an image; `above` are the real folders around."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Unused(folder, f"cannot be opened ({error.strerror})")
        return
    for entry in entries:
        path, reason = folder / entry.name, ""
        if entry.name.startswith("."):
            reason = "hidden"
        elif entry.is_dir():
            real = os.path.realpath(path)
            if real not in above:
                yield from _walk(path, (*above, real))
                continue
            reason = "a link in a circle"
        elif not entry.is_file():
            reason = "a link to a file that is not there" if entry.is_symlink() else "no file"
        elif not is_image(path):
            reason = f"no image ({path.suffix.lower() or 'no extension'})"
        yield Unused(path, reason)


def find_category(root: Path, category: str | None) -> Path:
    """Return the folder of `category` in `root`, or `root` without one; raises `InputError` when there is none."""
    if not root.is_dir():
        raise InputError(f"dataset.root: there is no folder {root}; give the folder that holds the images")
    if category is None:
        return root
    if not (root / category).is_dir():
        known = subfolders(root)
        hint = nearest_name(category, known) if known else ""
        raise InputError(f"dataset.category: there is no folder '{category}' in {root}{hint}")
    return root / category


def list_categories(root: Path) -> list[str]:
    """Return the folders of `root` that are image sets of their own, as far as names say so: with parts or kinds."""
    if not root.is_dir():
        return []
    return [name for name in subfolders(root) if part_of(name) is None and _is_set(root / name)]


def _is_set(folder: Path) -> bool:
    """Tell whether a folder holds parts or kinds, directly or in a folder that says nothing."""
    names = subfolders(folder)
    if any(part_of(name) or Vocabulary().meaning(name) in ("normal", "anomalous") for name in names):
        return True
    return any(_is_set(folder / name) for name in names if plain(name) in WRAPPERS)
