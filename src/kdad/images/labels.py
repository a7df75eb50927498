"""Which images of a folder are labelled by where they lie."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kdad.images.layouts.names import NORMAL, Vocabulary

_WORDS = Vocabulary()
MASKS = "ground_truth"


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


def without_masks(paths: Sequence[Path], base: Path) -> list[Path]:
    """Leave out what lies below a folder ``ground_truth`` in `base`: masks are no images to judge."""
    return [path for path in paths if MASKS not in path.relative_to(base).parts[:-1]]


def _kind(parts: tuple[str, ...], deciding: set[tuple[str, ...]]) -> str | None:
    inner_first = range(len(parts) - 1, -1, -1)
    found = next((parts[depth] for depth in inner_first if parts[:depth] in deciding), None)
    return NORMAL if found is not None and _is_normal(found) else found


def _is_normal(name: str) -> bool:
    return _WORDS.meaning(name) == "normal"
