"""Sets whose folders say what images are: parts, kinds and masks, in any order that people use."""

from collections.abc import Iterable
from pathlib import Path

from kdad.errors import InputError
from kdad.images.layouts.files import FoundFiles, Unused, subfolders
from kdad.images.layouts.kinds import Kinds, ListedFile
from kdad.images.layouts.layout import Layout
from kdad.images.layouts.masks import PlacedMask, pair_masks, unmarked
from kdad.images.layouts.names import NO_PICTURES, WRAPPERS, Vocabulary, part_of, plain


def read_folders(files: FoundFiles, vocabulary: Vocabulary) -> Layout:
    """Understand images by the folders that they lie in.

    A part is ``train``, ``validation`` or ``test``; the first folder with a normal or anomalous name, or else the first
    of all, is the kind; deeper ones say nothing. Without parts normal images train and others are tested. Raises
    `InputError` with a question when a name could mean either.
    """
    lying, masks, unused = _sort_out(files, vocabulary)
    has_parts = any(found.part for found in lying)
    if has_parts:
        outside = [found for found in lying if found.part is None]
        lying = [found for found in lying if found.part is not None]
    level = _level_of_kinds(lying, vocabulary, files.base)
    kinds = Kinds(files.base, vocabulary, level)
    layout = kinds.with_parts(lying) if has_parts else kinds.without_parts(lying)
    layout.unused += [*files.unused, *unused]
    if has_parts:
        for found in outside:
            if found.names:
                layout.problems.append(
                    f"{found.path}: lies outside of the parts; move it to train/good or test/<kind of defect>"
                )
            else:
                layout.unused.append(Unused(found.path, "beside the folders of the parts"))
        layout.problems += _empty_kinds(files.base)
    by_path = {found.path: found for found in lying}
    places = [PlacedMask(image.path, _lower(by_path[image.path].names)) for image in layout.images]
    paired = pair_masks(layout.images, places, masks)
    layout.images = paired.images
    layout.problems += paired.problems
    layout.notes += paired.notes
    if masks and len(paired.ownerless) == len(masks):
        layout.problems.append(_ask_for_masks(masks, files, vocabulary))
    else:
        layout.problems += [
            f"{path}: is a mask without an image; name it like its image, with _mask at the end, or remove it"
            for path in paired.ownerless
        ]
    layout.unused += [Unused(path, "a mask of a normal image, which needs none") for path in paired.of_normal]
    return layout


def _sort_out(files: FoundFiles, vocabulary: Vocabulary) -> tuple[list[ListedFile], list[PlacedMask], list[Unused]]:
    """Part masks and what is no picture from images."""
    lying, masks, unused = [], [], []
    for path in files.images:
        inside = files.inside(path)
        part = next((part for part in map(part_of, inside) if part), None)
        kinds = [_kind_of_masks(name) if vocabulary.holds_masks(name) else name for name in inside]
        names = tuple(name for name in kinds if name and not part_of(name) and plain(name) not in WRAPPERS)
        if any(map(vocabulary.holds_masks, inside)):
            masks.append(PlacedMask(path, _lower(names)))
        elif any(plain(name) in NO_PICTURES for name in inside):
            unused.append(Unused(path, "coordinates (xyz), no picture"))
        else:
            lying.append(ListedFile(path, part, names))
    return lying, masks, unused


def _kind_of_masks(name: str) -> str | None:
    """Return the kind that a folder of masks is named after, as ``bad`` of ``bad_mask``."""
    return unmarked(plain(name))


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(plain, names))


def _level_of_kinds(lying: list[ListedFile], vocabulary: Vocabulary, base: Path) -> int:
    """Return how deep below its part a normal kind's folder lies, 0 without any; asks when depths differ."""
    levels: dict[int, ListedFile] = {}
    for found in lying:
        known = [level for level, name in enumerate(found.names) if vocabulary.meaning(name) == "normal"]
        if known:
            levels.setdefault(known[0], found)
    if len(levels) > 1:
        places = " and ".join(str(found.path.parent) for found in list(levels.values())[:2])
        raise InputError(
            f"{base}: folders of normal images lie at different depths ({places}); which of them are kinds? Move them "
            "to one depth"
        )
    return next(iter(levels), 0)


def _ask_for_masks(masks: list[PlacedMask], files: FoundFiles, vocabulary: Vocabulary) -> str:
    """Return the question, as a problem, that a folder of masks raises of which none has an image."""
    path = masks[0].path
    name = next(name for name in files.inside(path) if vocabulary.holds_masks(name))
    return (
        f"{path}: is a mask without an image, as are all {len(masks)} of '{name}'; are they masks? Name each like its "
        f"image, with _mask at the end; or, if they are images of a kind, say it: dataset.layout.anomalous=['{name}']"
    )


def _empty_kinds(base: Path) -> list[str]:
    """Name folders of the test that hold nothing at all: an extraction that failed, or images elsewhere."""
    tests = [base / name for name in subfolders(base) if part_of(name) == "test"]
    return [
        f"{test / kind}: holds no images; add some, or remove the folder"
        for test in tests
        for kind in subfolders(test)
        if not any((test / kind).iterdir())
    ]
