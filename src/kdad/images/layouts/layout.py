"""What names mean, what a layout is, the files that it is made of, and which categories there are."""

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kdad.errors import InputError
from kdad.images.files.reading import is_image
from kdad.images.image_set import Subset
from kdad.parameters.strict import nearest_name

#: The kind of normal images, whatever their folder is called.
NORMAL = "good"
NORMAL_NAMES = (
    *("good", "normal", "ok", "okay", "pass", "passed", "negative", "healthy", "intact", "flawless", "undamaged"),
    *("no_defect", "defect_free", "non_defective", "nondefective", "not_defective", "without_defect"),
)
ANOMALOUS_NAMES = (
    *("bad", "ng", "ko", "nok", "not_ok", "not_good", "no_good", "fail", "failed", "positive", "faulty", "damaged"),
    *("defect", "defects", "defective", "anomaly", "anomalies", "anomalous", "abnormal"),
)
MASK_NAMES = ("ground_truth", "groundtruth", "gt", "mask", "masks")
#: In a folder's name beside other words, or alone, these may say that it holds masks: a question.
_MASK_WORDS = {*MASK_NAMES, "label", "labels", "annotation", "annotations", "segmentation", "segmentations"}
PART_NAMES: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
#: Folders that say nothing of what lies in them.
WRAPPERS = ("data", "image", "images", "img", "imgs", "rgb")
#: Three-dimensional measurements beside ``rgb``, as in MVTec 3D-AD.
NO_PICTURES = ("xyz",)

Meaning = Literal["normal", "anomalous", "unknown", "doubtful", "masks?"]
_ALIKE = 0.8


def plain(name: str) -> str:
    """Return a name in lower case, with one underscore for blanks and dashes."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


@dataclass(frozen=True)
class Vocabulary:
    """What names mean: the usual words, and before them what the parameters say of single names."""

    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    def meaning(self, name: str) -> Meaning:
        """Say what images of this name are: "doubtful" is nearly a normal name (``good_2``), or a class's number.

        "masks?" has a word of masks in it (``bad_mask``, ``labels``).
        """
        word = plain(name)
        if word in map(plain, self.normal):
            return "normal"
        if word in map(plain, self.anomalous):
            return "anomalous"
        if word in NORMAL_NAMES:
            return "normal"
        if word in ANOMALOUS_NAMES:
            return "anomalous"
        parts = set(re.split(r"[\W\d_]+", word))
        if parts & _MASK_WORDS:
            return "masks?"
        alike = len(word) > 3 and difflib.get_close_matches(word, NORMAL_NAMES, n=1, cutoff=_ALIKE)
        return "doubtful" if parts & set(NORMAL_NAMES) or alike or word in ("0", "1") else "unknown"

    def holds_masks(self, name: str) -> bool:
        """Tell whether a folder of this name holds masks."""
        word = plain(name)
        if word in map(plain, self.normal + self.anomalous):
            return False
        return word in MASK_NAMES or word in map(plain, self.masks)


def part_of(name: str) -> Subset | None:
    """Return which part a folder, or a word in a list, names."""
    return PART_NAMES.get(plain(name))


def sounds_anomalous(name: str) -> bool:
    """Tell whether a name has an anomalous word in it."""
    return bool(set(re.split(r"[\W\d_]+", plain(name))) & set(ANOMALOUS_NAMES))


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
