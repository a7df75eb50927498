"""Which mask is of which image: by folders and names, and a question where that is not certain."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kdad.images.layouts.layout import ImageFile

_MARKER = re.compile(r"[_-](?:mask|masks|gt|label|labels|seg|ground_?truth)$", re.IGNORECASE)
_NUMBER = re.compile(r"[_-]\d+$")

Rule = Callable[[tuple[str, ...], tuple[str, ...]], bool]


@dataclass(frozen=True)
class PlacedMask:
    """A file with the names of the folders that tell its kind, lower case."""

    path: Path
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Paired:
    """Images with their masks; masks of normal images, which need none, and of no image; questions, and decisions."""

    images: list[ImageFile]
    of_normal: list[Path]
    ownerless: list[Path]
    problems: list[str]
    notes: list[str]


def unmarked(stem: str) -> str | None:
    """Return a mask's stem without ``_mask``, ``_gt``, ``_label`` or the like; None where it has no such ending."""
    found = _MARKER.sub("", stem)
    return found if found != stem else None


def pair_masks(images: Sequence[ImageFile], places: Sequence[PlacedMask], masks: Sequence[PlacedMask]) -> Paired:
    """Give each image its masks; `places` are those of the images, in their order.

    A mask lies in folders of the same names as its image, of some of them, or of none. Its name is its image's (ending
    and all, or the stem), with a marker like ``_mask``, and perhaps a number; or its folder is named after the image
    (MVTec LOCO). The first of these rules that any image meets decides; several images meeting it are a problem.
    """
    found: dict[int, list[Path]] = {}
    of_normal, ownerless, problems, by_ending = [], [], [], []
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(places):
        rows.setdefault(place.path.stem.lower(), []).append(row)
    for mask in masks:
        owners = _owners(mask, images, places, rows)
        if not owners:
            ownerless.append(mask.path)
        elif all(images[row].is_normal for row in owners):
            of_normal.append(mask.path)
        elif len(owners) > 1:
            names = " or of ".join(str(places[row].path) for row in owners[:2])
            problems.append(f"{mask.path}: may be the mask of {names}; name it like its image, ending and all")
        else:
            found.setdefault(owners[0], []).append(mask.path)
            if _has_namesake(places[owners[0]], places, rows):
                by_ending.append(mask.path)
    paired = [replace(image, masks=tuple(found.get(row, image.masks))) for row, image in enumerate(images)]
    notes = []
    if by_ending:
        notes.append(
            f"masks whose name is that of several images, such as {by_ending[0].name}, are taken for those of the "
            f"image with their ending ({len(by_ending)})"
        )
    return Paired(paired, of_normal, ownerless, problems, notes)


def _has_namesake(place: PlacedMask, places: Sequence[PlacedMask], rows: dict[str, list[int]]) -> bool:
    """Tell whether another image in the same folder has the name, but for its ending."""
    return sum(places[row].path.parent == place.path.parent for row in rows[place.path.stem.lower()]) > 1


def _owners(
    mask: PlacedMask, images: Sequence[ImageFile], places: Sequence[PlacedMask], rows: dict[str, list[int]]
) -> list[int]:
    for stem, folders, rules in _namings(mask):
        candidates = rows.get(stem.lower(), [])
        for fits in rules:
            near = [row for row in candidates if fits(folders, places[row].folders)]
            # A mask whose ending is its image's is of that one, where a photograph of another format has its name too.
            exact = [row for row in near if places[row].path.suffix.lower() == mask.path.suffix.lower()]
            anomalous = [row for row in exact or near if not images[row].is_normal]
            if near:
                return anomalous or exact or near
    return []


def _namings(mask: PlacedMask) -> list[tuple[str, tuple[str, ...], tuple[Rule, ...]]]:
    """Return the stems that a mask's image may have, the surest first, with the folders and rules to compare by."""
    stem = mask.path.stem
    stems = [stem, unmarked(stem), _NUMBER.sub("", unmarked(stem) or stem)]
    numberless = _NUMBER.sub("", stem)
    stems.append(unmarked(numberless) or numberless)
    found = [(each, mask.folders, _FOLDERS) for each in dict.fromkeys(stems) if each is not None]
    if mask.folders:
        found.insert(0, (mask.folders[-1], mask.folders[:-1], (_equal,)))
    return found


def _equal(mask: tuple[str, ...], image: tuple[str, ...]) -> bool:
    return mask == image


def _within(mask: tuple[str, ...], image: tuple[str, ...]) -> bool:
    """Tell whether the image's folders begin or end as the mask's: ``NG/colour`` and ``mask/colour``."""
    return bool(mask) and mask in (image[: len(mask)], image[-len(mask) :])


def _anywhere(mask: tuple[str, ...], image: tuple[str, ...]) -> bool:
    return not mask


_FOLDERS: tuple[Rule, ...] = (_equal, _within, _anywhere)
