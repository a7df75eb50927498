"""Lists of images as CSV: columns path, label, mask and split, under these or other usual names; VisA's among them."""

import csv
import io
from pathlib import Path

from kdad.errors import InputError
from kdad.images.layouts.listed import Row
from kdad.parameters.strict import nearest_name

#: The columns, each with the names that it is known by.
COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename", "file_name"),
    "label": ("label", "class", "kind", "defect"),
    "mask": ("mask", "mask_path", "ground_truth"),
    "split": ("split", "part", "subset"),
    "category": ("category", "object", "product"),
}


def read_csv_list(file: Path, category: str | None, prefix: str = "") -> list[Row]:
    """Return the rows of a CSV file (commas, semicolons or tabs; UTF-8), of one category where there are several.

    With `prefix` paths lose it. Raises `InputError` for a file that cannot be read, columns that are missing, and
    categories of which none is chosen.
    """
    chosen = _of_category(file, _read(file), category)
    if not chosen:
        raise InputError(f"{file}: lists no images; add a row for each")
    return [_without(row, prefix) for row in chosen]


def list_csv_categories(file: Path) -> list[str]:
    """Return the categories that a CSV file lists, sorted; none for one that cannot be read, or has no such column."""
    try:
        return sorted({name for name, _ in _read(file) if name is not None})
    except InputError:
        return []


def _read(file: Path) -> list[tuple[str | None, Row]]:
    """Return every row with its category."""
    text = _text_of(file)
    first = text.partition("\n")[0]
    # What separates columns is what the first line has the most of.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        head = next(reader, [])
        columns = _columns(file, head)
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as CSV ({error}); write it anew") from error
    found = []
    for number, cells in rows:
        where = f"{file}, line {number}"
        if len(cells) != len(head):
            raise InputError(f"{where}: has {len(cells)} cells, and the first line {len(head)}; make them equal")
        said = {name: cells[place].strip() for name, place in columns.items()}
        found.append((said.pop("category", None), Row(where, **said)))
    return found


def _text_of(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); let it be read") from error


def _columns(file: Path, head: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, title in enumerate(head):
        name = next((name for name, names in COLUMNS.items() if title.strip().lower() in names), None)
        if name in found:
            raise InputError(f"{file}: has two columns of the {name}, '{head[found[name]]}' and '{title}'; leave one")
        if name is not None:
            found[name] = place
    for name in ("path", "label"):
        if name not in found:
            titles = [title.strip() for title in head if title.strip()]
            raise InputError(
                f"{file}: has no column '{name}'{nearest_name(name, titles)}; the first line names the columns: path, "
                "label, and where there are some mask, split, category"
            )
    return found


def _of_category(file: Path, rows: list[tuple[str | None, Row]], category: str | None) -> list[Row]:
    known = sorted({name for name, _ in rows if name is not None})
    if category is None and len(known) > 1:
        raise InputError(f"{file}: lists {len(known)} categories; set dataset.category to one: {', '.join(known[:20])}")
    if category is None or not known:
        return [row for _, row in rows]
    if category not in known:
        raise InputError(f"dataset.category: {file} has no category '{category}'{nearest_name(category, known)}")
    return [row for name, row in rows if name == category]


def _without(row: Row, prefix: str) -> Row:
    if not prefix:
        return row
    masks = ";".join(name.strip().removeprefix(prefix) for name in row.mask.split(";"))
    return Row(row.where, row.path.removeprefix(prefix), row.label, masks, row.split)
