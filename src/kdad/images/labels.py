"""Which images of a folder are labelled by where they lie."""

from collections.abc import Sequence
from pathlib import Path

NORMAL = "good"
MASKS = "ground_truth"


def label_by_folder(paths: Sequence[Path]) -> list[int | None]:
    """Return 0 for an image in a folder ``good``, 1 for one in a folder beside such, None where nothing is known."""
    normal_places = {path.parent.parent for path in paths if path.parent.name == NORMAL}
    return [None if path.parent.parent not in normal_places else int(path.parent.name != NORMAL) for path in paths]


def without_masks(paths: Sequence[Path], base: Path) -> list[Path]:
    """Leave out what lies below a folder ``ground_truth`` in `base`: masks are no images to judge."""
    return [path for path in paths if MASKS not in path.relative_to(base).parts[:-1]]
