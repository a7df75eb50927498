"""Which images of a folder are labelled by where they lie."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kdad.images.layouts.names import NORMAL, Vocabulary

_WORDS = Vocabulary()


def kinds_by_folder(names: Sequence[str]) -> list[str | None]:
    """Return ``good`` for an image below a folder with a normal name, and the folder's name for one beside that.

    `names` are paths with slashes; ``good``, ``normal``, ``OK`` and the like are normal. The innermost folder that has
    one of them decides; None for an image outside of such, of which nothing is known.
    """
    folders = [PurePosixPath(name).parent.parts for name in names]
    deciding = {parts[:depth] for parts in folders for depth, part in enumerate(parts) if _is_normal(part)}
    return [_kind(parts, deciding) for parts in folders]


def label_by_folder(names: Sequence[str]) -> list[int | None]:
    """Return 0 for an image of kind ``good``, 1 for one of another kind, None for one of none (`kinds_by_folder`)."""
    return [None if kind is None else int(kind != NORMAL) for kind in kinds_by_folder(names)]


def mask_folder(path: Path, base: Path) -> str | None:
    """Return the name of the folder of masks in `base` (``ground_truth``, ``masks``, ...) that a file lies below."""
    return next(filter(_WORDS.holds_masks, path.relative_to(base).parts[:-1]), None)


def _kind(parts: tuple[str, ...], deciding: set[tuple[str, ...]]) -> str | None:
    inner_first = range(len(parts) - 1, -1, -1)
    found = next((parts[depth] for depth in inner_first if parts[:depth] in deciding), None)
    return NORMAL if found is not None and _is_normal(found) else found


def _is_normal(name: str) -> bool:
    return _WORDS.meaning(name) == "normal"
