"""Sets that a list describes: a row an image, with its label, mask and part."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kdad.images.files.extensions import EXTENSIONS, is_image
from kdad.images.image_set import Subset
from kdad.images.layouts.files import Unused, find_files
from kdad.images.layouts.layout import ImageFile, Layout
from kdad.images.layouts.names import NORMAL, Vocabulary, part_of

_NUMBERS = {"0": NORMAL, "1": "anomaly", "0.0": NORMAL, "1.0": "anomaly", "false": NORMAL, "true": "anomaly"}


@dataclass(frozen=True)
class Row:
    """A line of a list: where it stands (for messages), and its cells, empty where nothing is said."""

    where: str
    path: str
    label: str
    mask: str = ""
    split: str = ""


def read_rows(rows: list[Row], base: Path, vocabulary: Vocabulary, name: str, *, strict: bool = True) -> Layout:
    """Return the images of `rows`, whose paths begin from `base`; files below it that no row names are not used.

    Labels are 0 and 1, or names of kinds. Without a part, normal images train and others are tested. With `strict`
    an anomalous training image is a problem, otherwise it is not used. What is wrong with a row is in the problems.
    """
    images: list[ImageFile] = []
    problems: list[str] = []
    unused: list[Unused] = []
    seen: dict[str, str] = {}
    masks_named: set[Path] = set()
    for row in rows:
        path, wrong = _place(row.path, base, "path")
        kind, wrong_label = _kind(row.label, vocabulary)
        part, wrong_part = _part(row.split, kind)
        masks, wrong_masks = _masks(row.mask, base)
        masks_named |= set(masks)
        wrong = [*wrong, *wrong_label, *wrong_part, *wrong_masks]
        if path is not None and row.path in seen:
            wrong.append(f"names {row.path} again, as {seen[row.path]} does; leave one of them")
        seen.setdefault(row.path, row.where)
        if not wrong and kind != NORMAL and part != "test":
            if strict:
                wrong.append(f"{row.path} is anomalous and in the part {part}; only normal images train: say test")
            else:
                unused.append(Unused(path, f"an anomalous image of the part {part}, where only normal ones are used"))
                continue
        problems += [f"{row.where}: {problem}" for problem in wrong]
        if not wrong:
            images.append(ImageFile(path, kind, part, row.label or None, () if kind == NORMAL else tuple(masks)))
    named = masks_named | {image.path for image in images} | {found.path for found in unused}
    unused += [Unused(path, "not in the list") for path in find_files(base).images if path not in named]
    order = {"train": 0, "validation": 1, "test": 2}
    images.sort(key=lambda image: (order[image.subset], image.path))
    problems += _without_normal(rows, images, vocabulary)
    return Layout(name, images, problems, unused)


def _place(cell: str, base: Path, column: str) -> tuple[Path | None, list[str]]:
    """Return the file that a cell names, which must lie below `base`, links included."""
    if not cell:
        return None, [f"the {column} is empty; name a file"]
    path = Path(os.path.normpath(base / cell.replace("\\", "/")))
    if "\0" in cell or not path.is_relative_to(base):
        return None, [f"the {column} '{cell}' leads out of {base}; name files below it"]
    if not path.is_file():
        return None, [f"the {column} '{cell}' is no file below {base}; correct it, or remove the row"]
    if not is_image(path):
        known = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        return None, [f"the {column} '{cell}' is no image by its ending ({known})"]
    return path, []


def _masks(cell: str, base: Path) -> tuple[list[Path], list[str]]:
    found = [_place(name.strip(), base, "mask") for name in cell.split(";") if name.strip()]
    return [path for path, _ in found if path is not None], [problem for _, wrong in found for problem in wrong]


def _kind(label: str, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    word = label.strip()
    if word.lower() in _NUMBERS:
        return _NUMBERS[word.lower()], []
    meaning = vocabulary.meaning(word)
    if not word or meaning == "doubtful" or word.replace(".", "", 1).lstrip("-").isdigit():
        said = f"the label '{word}'" if word else "no label"
        return "", [f"has {said}; write 0 or good for normal images, 1 or the defect's name for others"]
    return (NORMAL if meaning == "normal" else word), []


def _part(split: str, kind: str) -> tuple[Subset, list[str]]:
    if not split.strip():
        return ("train" if kind == NORMAL else "test"), []
    part = part_of(split)
    return part or "test", [] if part else [f"the split '{split}' is no part; write train, validation or test"]


def _without_normal(rows: list[Row], images: list[ImageFile], vocabulary: Vocabulary) -> list[str]:
    if not images or any(image.is_normal for image in images):
        return []
    words = ", ".join(f"{word} ({count})" for word, count in Counter(row.label for row in rows).most_common(8))
    return [
        f"no row is of a normal image; the labels are {words}. If one of them is normal, say it: "
        "dataset.layout.normal=[...]"
    ]
