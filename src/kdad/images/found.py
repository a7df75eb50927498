"""The image files below a folder: how they are labelled by where they lie, and what is left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path, PurePosixPath

from kdad.errors import InputError
from kdad.images.files.decoding import EXTENSION_NAMES, known_size
from kdad.images.layouts.layout import NORMAL, Vocabulary, find_files, group_of

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
