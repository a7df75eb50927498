"""Sets that a list describes, a row an image with its label, mask and part: CSV (VisA's too), or Real-IAD's JSON."""

import csv
import io
import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from kdad.errors import InputError
from kdad.images.files.decoding import EXTENSION_NAMES, is_image
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import (
    NORMAL,
    PART_NAMES,
    ImageFile,
    Layout,
    Unused,
    Vocabulary,
    composed,
    find_files,
    is_named,
    list_categories,
    part_of,
    words_of,
)
from kdad.parameters.dataset import CELLS, TEXTURES, is_pattern
from kdad.parameters.strict import first_message, nearest_name
from kdad.storage.replacing import read_facts

_NUMBERS = {"0": NORMAL, "1": "anomaly", "0.0": NORMAL, "1.0": "anomaly", "false": NORMAL, "true": "anomaly"}
_ORDER = {"train": 0, "validation": 1, "test": 2}
#: The columns of a CSV list, each with the names that it is known by.
COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename", "file_name"),
    "label": ("label", "class", "kind", "defect"),
    "mask": ("mask", "mask_path", "mask_file", "mask_name", "ground_truth", "gt"),
    "split": ("split", "part", "subset", "set", "usage", "partition"),
    "category": ("category", "object", "product"),
    "ignore": ("ignore", "ignore_mask"),
}


@dataclass(frozen=True)
class Row:
    """A line of a list: where it stands (for messages), and its cells, empty where nothing is said."""

    where: str
    path: str
    label: str
    mask: str = ""
    split: str = ""
    category: str | None = None
    group: str | None = None
    ignore: str = ""


@dataclass(frozen=True)
class CsvList:
    """What a CSV file lists: rows of one category, files of others (from the list's folder), titles not understood."""

    rows: list[Row]
    elsewhere: list[str]
    unknown: list[str]


def read_rows(
    rows: list[Row],
    base: Path,
    vocabulary: Vocabulary,
    name: str,
    elsewhere: list[str] | None = None,
    *,
    strict: bool = True,
) -> Layout:
    """Return the images of `rows`, whose paths begin from `base`; files below it that no row names are not used.

    Labels are 0 and 1, or names of kinds. Without a part, normal images train and others are tested. With `strict`
    an anomalous training image is a problem, otherwise it is not used. What is wrong with a row is in the problems.
    `elsewhere` are files that the list names for other categories.
    """
    layout = Layout(name, [])
    seen: dict[str, str] = {}
    named: set[Path] = set()
    has_parts = any(row.split.strip() for row in rows)
    for row in rows:
        path, wrong = _place(row.path, base, "path")
        if path is not None and any(is_named(path.relative_to(base), pattern) for pattern in vocabulary.ignore):
            layout.unused.append(Unused(path, "named by dataset.layout.ignore"))
            continue
        if has_parts and not row.split.strip():
            wrong.append("names no part, as other rows do; write train, validation or test")
        kind, wrong_label = _kind(row.label, vocabulary)
        part, wrong_part = _part(row.split, kind)
        masks = [_place(cell.strip(), base, "mask") for cell in row.mask.split(";") if cell.strip()]
        ignored, wrong_ignored = _place(row.ignore, base, "mask of ignored pixels") if row.ignore else (None, [])
        named |= {mask for mask in (ignored, *(mask for mask, _ in masks)) if mask is not None}
        if row.group == "":
            wrong.append("says no group in the column of dataset.groups; write one in each row")
        wrong = [*wrong, *wrong_label, *wrong_part, *(problem for _, problems in masks for problem in problems)]
        wrong += wrong_ignored
        if path is not None and row.path in seen:
            wrong.append(f"names {row.path} again, as {seen[row.path]} does; leave one of them")
        seen.setdefault(row.path, row.where)
        if not wrong and kind != NORMAL and part != "test":
            if not strict:
                reason = f"an anomalous image of the part {part}, where only normal ones are used"
                layout.unused.append(Unused(path, reason, True))
                continue
            wrong.append(f"{row.path} is anomalous and in the part {part}; only normal images train: say test")
        layout.problems += [f"{row.where}: {problem}" for problem in wrong]
        if not wrong:
            marks = () if kind == NORMAL else tuple(mask for mask, _ in masks)
            layout.masks_of_normal += [(path, mask) for mask, _ in masks if kind == NORMAL]
            layout.images.append(
                ImageFile(path, kind, part, row.label or None, marks, group=row.group, ignored=ignored)
            )
    named |= {image.path for image in layout.images} | {file.path for file in layout.unused}
    of_others = {_below(base, cell) for cell in elsewhere or ()}
    layout.unused += [
        Unused(path, "of another category of the list") if path in of_others else Unused(path, "not in the list", True)
        for path in find_files(base, vocabulary.ignore).images
        if path not in named
    ]
    layout.images.sort(key=lambda image: (_ORDER[image.subset], image.path))
    if layout.images and not any(image.is_normal for image in layout.images):
        words = ", ".join(f"{word} ({count})" for word, count in Counter(row.label for row in rows).most_common(8))
        layout.problems.append(
            f"no row is of a normal image; the labels are {words}. If one of them is normal, say it: "
            "dataset.layout.normal=[...]"
        )
    return layout


def _place(cell: str, base: Path, column: str) -> tuple[Path | None, list[str]]:
    """Return the file that a cell names, which must lie below `base`, links included."""
    if not cell:
        return None, [f"the {column} is empty; name a file"]
    path = _below(base, cell)
    if "\0" in cell or not path.is_relative_to(base):
        return None, [f"the {column} '{cell}' leads out of {base}; name files below it"]
    if not path.is_file():
        path = _composed_alike(path, base)
    if not path.is_file():
        return None, [f"the {column} '{cell}' is no file below {base}; correct it, or remove the row"]
    if not is_image(path):
        return None, [f"the {column} '{cell}' is no image by its ending ({EXTENSION_NAMES})"]
    return path, []


def _below(base: Path, cell: str) -> Path:
    return Path(os.path.normpath(base / cell.replace("\\", "/")))


def _composed_alike(path: Path, base: Path) -> Path:
    """Return the file whose path differs in the form of Unicode alone, or `path` where there is none."""
    place = base
    for name in path.relative_to(base).parts:
        alike = [each for each in place.iterdir() if composed(each.name) == composed(name)] if place.is_dir() else []
        place = alike[0] if alike else place / name
    return place


def _kind(label: str, vocabulary: Vocabulary) -> tuple[str, list[str]]:
    word = label.strip()
    if word.lower() in _NUMBERS:
        return _NUMBERS[word.lower()], []
    meaning = vocabulary.meaning(word)
    if not word or meaning == "doubtful" or word.replace(".", "", 1).lstrip("-").isdigit():
        has = f"the label '{word}'" if word else "no label"
        return "", [f"has {has}; write 0 or good for normal images, 1 or the defect's name for others"]
    return (NORMAL if meaning == "normal" else word), []


def _part(split: str, kind: str) -> tuple[Subset, list[str]]:
    if not split.strip():
        return ("train" if kind == NORMAL else "test"), []
    part = part_of(split)
    return part or "test", [] if part else [f"the split '{split}' is no part; write train, validation or test"]


def read_csv_list(file: Path, category: str | None, prefix: str = "", groups: str | None = None) -> CsvList:
    """Read a CSV file (commas, semicolons or tabs; UTF-8), of one category where there are several.

    With `prefix` paths lose it; `groups` are those of ``dataset.groups``. Raises `InputError` for a file that
    cannot be read, columns that are missing, and categories of which none is chosen.
    """
    listed = _read_csv(file, groups)
    rows, others = listed.rows, []
    known = sorted({row.category for row in rows if row.category is not None})
    if category is None and len(known) > 1:
        raise InputError(f"{file}: lists {len(known)} categories; set dataset.category to one: {', '.join(known[:20])}")
    if category is not None and known:
        if category not in known:
            raise InputError(f"dataset.category: {file} has no category '{category}'{nearest_name(category, known)}")
        others = [row for row in rows if row.category != category]
        others = [cell for row in others for cell in (row.path, *row.mask.split(";"), row.ignore) if cell.strip()]
        rows = [row for row in rows if row.category == category]
    if not rows:
        raise InputError(f"{file}: lists no images; add a row for each")
    if prefix:
        masks = [";".join(name.strip().removeprefix(prefix) for name in row.mask.split(";")) for row in rows]
        rows = [
            replace(row, path=row.path.removeprefix(prefix), mask=mask, ignore=row.ignore.removeprefix(prefix))
            for row, mask in zip(rows, masks, strict=True)
        ]
    return replace(listed, rows=rows, elsewhere=[cell.strip() for cell in others])


def list_csv_categories(file: Path) -> list[str]:
    """Return the categories that a CSV file lists, sorted; none for one that cannot be read, or has no such column."""
    try:
        return sorted({row.category for row in _read_csv(file).rows if row.category is not None})
    except InputError:
        return []


def every_category(name: str, root: str | None) -> list[str]:
    """List what ``all`` means: every texture, type of cell, or category below `root`; empty where there is none."""
    if name in ("textures", "elpv"):
        return list(TEXTURES if name == "textures" else CELLS)
    place = Path(root or "").expanduser()
    return list_csv_categories(place) if name == "csv" else list_categories(place)


def _read_csv(file: Path, groups: str | None = None) -> CsvList:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); let it be read") from error
    first = text.partition("\n")[0]
    # What separates columns is what the first line has the most of.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        head = next(reader, [])
        lines = [(f"{file}, line {reader.line_num}", cells) for cells in reader if any(cell.strip() for cell in cells)]
        titles = [title.strip() for title in head]
        by_name = groups is None or (groups not in titles and (is_pattern(groups) or groups == "folder"))
        group = None if by_name else groups
        columns = _columns(file, head, group)
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as CSV ({error}); write it anew") from error
    for where, cells in lines:
        if len(cells) != len(head):
            raise InputError(f"{where}: has {len(cells)} cells, and the first line {len(head)}; make them equal")
    if "split" not in columns:
        columns |= _column_of_parts(file, head, [cells for _, cells in lines], group)
    if group is not None:
        columns["group"] = _column_of_groups(file, titles, group)
    rows = [Row(where, **{name: cells[place].strip() for name, place in columns.items()}) for where, cells in lines]
    known = {"", *(title for names in COLUMNS.values() for title in names)}
    return CsvList(rows, [], [title for title in titles if title != group and title.lower() not in known])


def _columns(file: Path, head: list[str], group: str | None) -> dict[str, int]:
    columns: dict[str, int] = {}
    for place, title in enumerate(head):
        name = next((name for name, names in COLUMNS.items() if title.strip().lower() in names), None)
        # What the parameters say of a column comes first.
        if title.strip() == group and name in ("split", "mask", "ignore"):
            continue
        if name in columns:
            raise InputError(f"{file}: has two columns of the {name}, '{head[columns[name]]}' and '{title}'; leave one")
        if name is not None:
            columns[name] = place
    for name in ("path", "label"):
        if name not in columns:
            titles = [title.strip() for title in head if title.strip()]
            raise InputError(
                f"{file}: has no column '{name}'{nearest_name(name, titles)}; the first line names the columns: path, "
                "label, and where there are some mask, split, category, ignore"
            )
    return columns


def _column_of_groups(file: Path, titles: list[str], group: str) -> int:
    if titles.count(group) != 1:
        raise InputError(
            f"{file}: has {titles.count(group)} columns '{group}' (dataset.groups){nearest_name(group, titles)}; give "
            "the title of one column, folder, or a pattern of names with the group in parentheses, as (film[0-9]+)_"
        )
    return titles.index(group)


def _column_of_parts(file: Path, head: list[str], lines: list[list[str]], group: str | None) -> dict[str, int]:
    """Return the column without a known title that holds nothing but parts; raises `InputError` for a doubtful one."""
    for place, title in enumerate(head):
        if title.strip() == group:
            continue
        cells = [cells[place].strip() for cells in lines if cells[place].strip()]
        if cells and all(map(part_of, cells)):
            return {"split": place}
        if words_of(title) & {*PART_NAMES, "fold", "split"} and cells:
            raise InputError(
                f"{file}: does the column '{title.strip()}' say which images train? Its cells are no parts, such as "
                f"'{cells[0]}'; call it split with train, validation or test in each row, or give it a title without "
                "such a word"
            )
    return {}


class _Meta(BaseModel):
    normal_class: str


class _Image(BaseModel):
    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class _RealIad(BaseModel):
    meta: _Meta
    train: list[_Image] = Field(min_length=1)
    test: list[_Image]


def find_dagm(base: Path) -> list[Path]:
    """Return the lists of DAGM 2007 in `base`: ``Train/Label/Labels.txt`` and the test's."""
    return [file for file in sorted(base.glob("*/*/Labels.txt")) if part_of(file.parent.parent.name)]


def read_dagm(files: list[Path]) -> list[Row]:
    """Return the rows of the lists, which name number, label, image, label again, mask; raises `InputError`."""
    rows = []
    for file in files:
        part = file.parent.parent
        for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            cells = line.split()
            if len(cells) <= 1:  # the list's first line is a number alone
                continue
            if len(cells) < 5 or cells[1] not in ("0", "1"):
                raise InputError(
                    f"{file}, line {number}: is no line of DAGM's list (number, 0 or 1, image, label, mask): "
                    f"'{line.strip()}'; fetch it again"
                )
            mask = f"{part.name}/{file.parent.name}/{cells[4]}" if cells[1] == "1" and cells[4] != "0" else ""
            rows.append(Row(f"{file}, line {number}", f"{part.name}/{cells[2]}", cells[1], mask, part.name))
    return rows


def find_real_iad(base: Path) -> Path | None:
    """Return Real-IAD's list of the category in `base`: by name, in a folder ``realiad_jsons``, in it, or beside it.

    In and beside it a file of that name is one only when it speaks of training and test images.
    """
    name = f"{base.name}.json"
    folders = [folder for place in (base.parent, base.parent.parent) for folder in sorted(place.glob("realiad_jsons*"))]
    folders += [inner for folder in folders for inner in sorted(folder.glob("realiad_jsons*"))]
    listed = (folder / name for folder in folders if (folder / name).is_file())
    parts = {"meta", "train", "test"}
    other = (file for file in (base / name, base.parent / name) if read_facts(file).keys() >= parts)
    return next(listed, None) or next(other, None)


def read_real_iad(file: Path) -> list[Row]:
    """Return the rows of both parts of a list; raises `InputError` when it is none."""
    try:
        listed = _RealIad.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InputError(f"{file}: is no list of Real-IAD ({first_message(error)}); fetch it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}); fetch it again") from error
    normal = listed.meta.normal_class
    return [
        Row(
            f"{file}, {part} {number}",
            image.image_path,
            NORMAL if image.anomaly_class == normal else image.anomaly_class,
            image.mask_path or "",
            part,
        )
        for part, images in (("train", listed.train), ("test", listed.test))
        for number, image in enumerate(images)
    ]
