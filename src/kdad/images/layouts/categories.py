"""Where the set of a category is, and which categories there are; pipelines are planned with it, without torch."""

from pathlib import Path

from kdad.errors import InputError
from kdad.images.layouts.files import subfolders
from kdad.images.layouts.names import WRAPPERS, Vocabulary, part_of, plain
from kdad.parameters.strict import nearest_name

_USUAL = Vocabulary()


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
    if any(part_of(name) or _USUAL.meaning(name) in ("normal", "anomalous") for name in names):
        return True
    return any(_is_set(folder / name) for name in names if plain(name) in WRAPPERS)
