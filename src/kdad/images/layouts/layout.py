"""What names mean, what a layout is, the files that it is made of, which categories there are; files to predict."""

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Literal

from kdad.errors import InputError
from kdad.images.files.annotation_files import Annotated
from kdad.images.files.decoding import EXTENSION_NAMES, is_hidden, is_image, known_size
from kdad.images.image_set import Subset
from kdad.parameters.dataset import is_pattern
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
#: The folder of masks of pixels that are ignored.
IGNORED = "ignore"
MASK_NAMES = ("ground_truth", "groundtruth", "gt", "mask", "masks", "segmentationclass", "segmentationobject", IGNORED)
#: In a folder's name beside other words, or alone, these may say that it holds masks: a question.
MASK_WORDS = {*MASK_NAMES, "label", "labels", "annotation", "annotations", "segmentation", "segmentations"}
PART_NAMES: dict[str, Subset] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
    "test_public": "test",  # MVTec AD 2
}
#: Parts whose labels are not published, as in MVTec AD 2.
UNLABELLED = ("test_private", "test_private_mixed")
#: Folders that say nothing of what lies in them.
WRAPPERS = ("data", "image", "images", "img", "imgs", "rgb", "jpegimages")
#: Three-dimensional measurements beside ``rgb``, as in MVTec 3D-AD.
NO_PICTURES = ("xyz",)

Meaning = Literal["normal", "anomalous", "unknown", "doubtful", "masks?"]
_ALIKE = 0.8


def plain(name: str) -> str:
    """Return a name in lower case, in one form of Unicode, with one underscore for blanks and dashes."""
    return re.sub(r"[\s_-]+", "_", composed(name).strip().lower())


def composed(name: str) -> str:
    """Return a name in the form of Unicode (NFC) that names are compared in: Macs write letters and accents apart."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Vocabulary:
    """What names mean: the usual words, and before them what the parameters say of single names."""

    normal: tuple[str, ...] = ()
    anomalous: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    #: Which pixels of masks are anomalous.
    marked: Literal["bright", "dark"] = "bright"

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
        parts = words_of(word)
        if parts & MASK_WORDS:
            return "masks?"
        bare = word.strip("_0123456789")  # ``1_defect`` is no misspelt ``no_defect``
        alike = len(word) > 3 and bare not in ANOMALOUS_NAMES
        alike = alike and difflib.get_close_matches(word, NORMAL_NAMES, n=1, cutoff=_ALIKE)
        return "doubtful" if parts & set(NORMAL_NAMES) or alike or word in ("0", "1") else "unknown"

    def holds_masks(self, name: str) -> bool:
        """Tell whether a folder of this name holds masks."""
        word = plain(name)
        if word in map(plain, self.normal + self.anomalous):
            return False
        return word in MASK_NAMES or word in map(plain, self.masks)

    def holds_ignored(self, folders: Iterable[str]) -> bool:
        """Tell whether one of these folders holds masks of pixels that are ignored."""
        return any(plain(name) == IGNORED and self.holds_masks(name) for name in folders)


def part_of(name: str) -> Subset | None:
    """Return which part a folder, or a word in a list, names; COCO's have a year (``train2017``)."""
    return PART_NAMES.get(re.sub(r"20\d\d$", "", plain(name)))


def words_of(name: str) -> set[str]:
    """Return the words in a name, in lower case."""
    return set(re.split(r"[\W\d_]+", plain(name)))


def speaks_of_parts(name: str) -> bool:
    """Tell whether a name has the word of a part in it, as ``test_private``."""
    return bool(words_of(name) & PART_NAMES.keys())


@dataclass(frozen=True)
class Unused:
    """A file or folder that is not used, and why; `matters` where it may say something of the images."""

    path: Path
    reason: str
    matters: bool = False


@dataclass(frozen=True)
class ImageFile:
    """An image of a kind ("good" is normal) and part; `called` is the folder or word that said so, if any.

    Its mask is what files mark, and what an annotation draws. Images of one `group` belong together. The file `ignored`
    marks pixels that do not count.
    """

    path: Path
    kind: str
    subset: Subset
    called: str | None = None
    masks: tuple[Path, ...] = ()
    drawn: Annotated | None = None
    group: str | None = None
    ignored: Path | None = None

    @property
    def is_normal(self) -> bool:
        """Whether it is of the normal kind."""
        return self.kind == NORMAL

    @property
    def is_marked(self) -> bool:
        """Whether a mask or an annotation says where it is anomalous."""
        return bool(self.masks) or self.drawn is not None


@dataclass
class Layout:
    """The images of a set in order; `name` says how they lie, `notes` what was decided, `problems` what is wrong."""

    name: str
    images: list[ImageFile]
    problems: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Normal images with a mask of theirs, which must mark nothing.
    masks_of_normal: list[tuple[Path, Path]] = field(default_factory=list)


@dataclass(frozen=True)
class FoundFiles:
    """The image files below `base`, sorted, and what else there is."""

    base: Path
    images: list[Path]
    unused: list[Unused]

    def inside(self, path: Path) -> tuple[str, ...]:
        """Return the names of the folders between the base and a file."""
        return path.relative_to(self.base).parts[:-1]


def find_files(base: Path, ignore: tuple[str, ...] = (), *, follow: bool = True) -> FoundFiles:
    """List what lies below `base`, at any depth; links to folders are followed where asked for, but not in a circle.

    What `ignore` names is not used. Raises `InputError` when one of its patterns names nothing.
    """
    met = dict.fromkeys(ignore, 0)

    def is_ignored(path: Path) -> bool:
        matched = [pattern for pattern in ignore if is_named(path.relative_to(base), pattern)]
        met.update((pattern, 1) for pattern in matched)
        return bool(matched)

    above = (os.path.realpath(base),) if follow else None
    files = sorted(_walk(base, above, is_ignored), key=lambda file: file.path)
    for pattern in (pattern for pattern, found in met.items() if not found):
        raise InputError(f"dataset.layout.ignore: '{pattern}' names nothing below {base}; correct or remove it")
    return FoundFiles(base, [file.path for file in files if not file.reason], [file for file in files if file.reason])


def is_named(path: Path, pattern: str) -> bool:
    """Tell whether a pattern (``*`` is anything) is a file's or folder's name, or its `path` from the set's folder."""
    wanted = composed(pattern).strip("/")
    return any(fnmatchcase(composed(name), wanted) for name in (path.name, path.as_posix()))


def group_of(path: Path, base: Path, groups: str) -> str | None:
    """Return the group of a file below `base`: of its name by a pattern, None where that is not met, or its folder."""
    if not is_pattern(groups):
        return path.parent.relative_to(base).as_posix()
    found = re.search(groups, path.name)
    return (found and found[1]) or None


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's own folders, sorted, without hidden ones."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror}); let it be read") from error


def _walk(folder: Path, above: tuple[str, ...] | None, is_ignored: Callable[[Path], bool]) -> Iterator[Unused]:
    """Yield every file with the reason why it is not used, empty for an image.

    `above` are the real folders around; without it links to folders are not followed.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Unused(folder, f"cannot be opened ({error.strerror})")
        return
    for entry in entries:
        path, reason = folder / entry.name, ""
        if is_hidden(entry.name):
            reason = "hidden" if entry.name.startswith(".") else f"a folder of the system ({entry.name})"
        elif is_ignored(path):
            reason = "named by dataset.layout.ignore"
        elif entry.is_symlink() and not path.exists():  # nor where links lead to each other
            reason = "a link to a file that is not there"
        elif entry.is_dir():
            real = os.path.realpath(path)
            if (above is None and not entry.is_symlink()) or (above is not None and real not in above):
                yield from _walk(path, above and (*above, real), is_ignored)
                continue
            reason = "a link to a folder, which is not followed" if above is None else "a link in a circle"
        elif not entry.is_file():
            reason = "no file"
        elif not is_image(path):
            reason = f"no image ({path.suffix.lower() or 'no extension'})"
        yield Unused(path, reason)


def find_category(root: Path, category: str | None) -> Path:
    """Return the folder of `category` in `root`, or `root` without one; raises `InputError` when there is none."""
    if not root.is_dir():
        raise InputError(f"dataset.root: there is no folder {root}; give the folder that holds the images")
    if category is None:
        return root
    if speaks_of_parts(category) and any(map(part_of, set(subfolders(root)) - {category})):
        raise InputError(
            f"dataset.category: '{category}' is a part of the set in {root}, and no category; leave "
            "dataset.category out, and give the whole set"
        )
    if not (root / category).is_dir():
        known = subfolders(root)
        for name in known:
            if composed(name) == composed(category):
                return root / name
        hint = nearest_name(category, known) if known else ""
        raise InputError(f"dataset.category: there is no folder '{category}' in {root}{hint}")
    return root / category


def list_categories(root: Path) -> list[str]:
    """Return the folders of `root` that are image sets of their own, as far as names say so: with parts or kinds."""
    if not root.is_dir():
        return []
    return [name for name in subfolders(root) if not speaks_of_parts(name) and _is_set(root / name)]


def _is_set(folder: Path) -> bool:
    """Tell whether a folder holds parts or kinds, directly or in a folder that says nothing."""
    names = subfolders(folder)
    if any(part_of(name) or Vocabulary().meaning(name) in ("normal", "anomalous") for name in names):
        return True
    return any(_is_set(folder / name) for name in names if plain(name) in WRAPPERS)


_WORDS = Vocabulary()


def kinds_by_folder(names: Sequence[str]) -> list[str | None]:
    """Return ``good`` for an image below a folder with a normal name, and the folder's name for one beside that.

    `names` are paths with slashes; ``good``, ``normal``, ``OK`` and the like are normal. The innermost folder that has
    one of them decides; None for an image outside of such, of which nothing is known.
    """
    folders = [PurePosixPath(name).parent.parts for name in names]
    deciding = {parts[:depth] for parts in folders for depth, part in enumerate(parts) if _is_normal(part)}
    kinds = [next((p[d] for d in range(len(p) - 1, -1, -1) if p[:d] in deciding), None) for p in folders]
    return [NORMAL if kind is not None and _is_normal(kind) else kind for kind in kinds]


def group_of_name(name: str, by: str) -> str:
    """Return the group of a file, `name` with slashes, by a rule of ``dataset.groups``; its name where it has none."""
    return group_of(Path(name), Path(), by) or name


def mask_folder(path: Path, base: Path) -> str | None:
    """Return the name of the folder of masks in `base` (``ground_truth``, ``masks``, ...) that a file lies below."""
    return next(filter(_WORDS.holds_masks, path.relative_to(base).parts[:-1]), None)


def _is_normal(name: str) -> bool:
    return _WORDS.meaning(name) == "normal"


@dataclass(frozen=True)
class FoundImages:
    """Image files at or below `place`, in order, and in words what else lies there and is left out."""

    place: Path
    paths: list[Path]
    left_out: list[str]

    @property
    def base(self) -> Path:
        """The folder that names begin from."""
        return self.place.parent if self.place.is_file() else self.place

    @cached_property
    def names(self) -> list[str]:
        """The files' paths from the base, with slashes."""
        return [path.relative_to(self.base).as_posix() for path in self.paths]

    @cached_property
    def kinds(self) -> list[str | None]:
        """``good``, or the name of the folder beside it, None where nothing is known; the base's own name counts."""
        return kinds_by_folder([f"{self.base.resolve().name}/{name}" for name in self.names])

    @cached_property
    def labels(self) -> list[int | None]:
        """0 for normal, 1 for anomalous, None where nothing is known."""
        return [None if kind is None else int(kind != NORMAL) for kind in self.kinds]

    def groups(self, by: str) -> list[str]:
        """Return the group of each file by a rule of ``dataset.groups``, its own where it has none."""
        return [group_of_name(name, by) for name in self.names]

    @cached_property
    def sizes(self) -> list[tuple[int, int] | None]:
        """Height and width by the files' headers, None for those that cannot be read."""
        return [known_size(path) for path in self.paths]


def look_for_images(place: Path) -> FoundImages:
    """Find the images at or below `place`; masks are counted with what is left out (`mask_folder`).

    Raises `InputError` when there is nothing to predict.
    """
    if place.is_file():
        return FoundImages(place, [place], [])
    if not place.is_dir():
        raise InputError(f"there is no file or folder '{place}'; give the images that are to be predicted")
    files = find_files(place, follow=False)
    folders = [mask_folder(path, place) for path in files.images]
    images = [path for path, folder in zip(files.images, folders, strict=True) if folder is None]
    if not images:
        what = f"but masks below '{folders[0]}'" if folders else f"({EXTENSION_NAMES}), at any depth"
        raise InputError(f"'{place}' holds no images {what}; give a folder of images")
    left_out = Counter([f"masks below '{folder}'" for folder in folders if folder is not None])
    left_out.update(file.reason for file in files.unused)
    return FoundImages(place, images, [f"{count} x {reason}" for reason, count in left_out.items()])


def require_batch_size(size: int) -> int:
    """Return the size of a batch; raises `InputError` for one that is no whole number from 1 on."""
    if not isinstance(size, Integral) or size < 1:
        raise InputError(f"batch_size is {size!r}; give a whole number from 1 on")
    return int(size)


def batches_of(paths: Iterable[Path], most: int, pixels: int) -> Iterator[list[Path]]:
    """Yield image files in batches of up to `most`, and of up to `pixels` together where that is more than one file."""
    batch: list[Path] = []
    held = 0
    for path in paths:
        height, width = known_size(path) or (0, 0)
        if batch and held + height * width > pixels:
            yield batch
            batch, held = [], 0
        batch.append(path)
        held += height * width
        if len(batch) == most:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
