"""Which layout the files of a folder have, or a list of them."""

import hashlib
from dataclasses import replace
from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.extensions import EXTENSIONS
from kdad.images.layouts.beside import labelled_by_masks, masks_beside
from kdad.images.layouts.by_folder import read_folders
from kdad.images.layouts.csv_list import read_csv_list
from kdad.images.layouts.files import FoundFiles, find_files
from kdad.images.layouts.layout import Layout
from kdad.images.layouts.listed import read_rows
from kdad.images.layouts.names import WRAPPERS, Vocabulary, part_of, plain
from kdad.images.layouts.real_iad import find_json, read_json

_TEST_SHARE = 0.2
_VISA = Path("split_csv") / "1cls.csv"


def read_layout(base: Path, vocabulary: Vocabulary) -> Layout:
    """Understand the images below `base`: by VisA's or Real-IAD's list, masks beside images, or folders.

    Where no normal image is marked for the test, a fifth of the good ones, chosen by their ids, is kept for it, so that
    there are normal scores. Raises `InputError` when there is no image, several categories, or a question to answer.
    """
    base = base.absolute()
    visa, real_iad = base.parent / _VISA, find_json(base)
    if visa.is_file():
        rows = read_csv_list(visa, base.name, f"{base.name}/")
        layout = read_rows(rows, base, vocabulary, f"the list {visa} (VisA)")
    elif real_iad is not None:
        layout = read_rows(read_json(real_iad), base, vocabulary, f"the list {real_iad} (Real-IAD)", strict=False)
    else:
        layout = _by_files(find_files(base), vocabulary)
    return complete(layout, base)


def read_list(file: Path, category: str | None, vocabulary: Vocabulary) -> Layout:
    """Understand a CSV list, whose paths begin from its own folder; raises `InputError` as `read_csv_list` does."""
    if not file.is_file():
        raise InputError(f"dataset.root: there is no file {file}; give the CSV file that lists the images")
    base = file.absolute().parent
    rows = read_csv_list(file, category)
    return complete(read_rows(rows, base, vocabulary, f"the list {file.name} (CSV)"), base)


def complete(layout: Layout, base: Path) -> Layout:
    """Keep normal images for a test that has none, and say what is missing."""
    kept = _keep_normal_for_test(layout, base)
    subsets = {file.subset for file in layout.images}
    if not any(file.is_normal and file.subset == "train" for file in layout.images):
        if not layout.problems:
            layout.problems.append(f"{base}: there are no normal images to train on; put them in train/good (or good)")
    elif "test" not in subsets:
        layout.problems.append(
            f"{base}: has too few images to keep one for the test; at least 3 normal ones are needed"
        )
    if kept:
        layout.notes.append(f"the test has no normal images, so {kept} of the training images are kept for it")
    return layout


def _by_files(files: FoundFiles, vocabulary: Vocabulary) -> Layout:
    if not files.images:
        extensions = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise InputError(
            f"{files.base}: holds no images ({extensions}); expected train/good and test/<kind>, good and <kind>, or "
            "good images alone"
        )
    _refuse_categories(files, vocabulary)
    own = [path for path in files.images if not any(map(vocabulary.holds_masks, files.inside(path)))]
    beside = masks_beside(own)
    if not beside:
        return read_folders(files, vocabulary)
    taken = {mask for masks in beside.values() for mask in masks}
    images = [path for path in own if path not in taken]
    named = any(vocabulary.meaning(name) in ("normal", "anomalous") for path in images for name in files.inside(path))
    if not named:
        without = [path for path in images if path not in beside]
        if without:
            raise InputError(
                f"{without[0]}: has no mask beside it, as {len(beside)} other images have, and lies in no folder that "
                "says what it is; is it normal? Add a mask, an empty one for a normal image, or put it into a folder "
                "good"
            )
        layout = labelled_by_masks(files, beside)
        layout.unused += files.unused
        return layout
    others = [path for path in files.images if path not in taken]
    layout = read_folders(FoundFiles(files.base, others, files.unused), vocabulary)
    layout.images = [
        image if image.is_normal else replace(image, masks=(*image.masks, *beside.get(image.path, ())))
        for image in layout.images
    ]
    layout.notes.append(f"{len(taken)} files beside images are their masks, by their names ({min(taken).name})")
    return layout


def _refuse_categories(files: FoundFiles, vocabulary: Vocabulary) -> None:
    """Raise `InputError` when the images are in folders of which each is a set of its own."""
    found = []
    for path in files.images:
        names = [name for name in files.inside(path) if plain(name) not in WRAPPERS]
        meanings = [vocabulary.meaning(name) in ("normal", "anomalous") for name in names]
        parts = [part_of(name) is not None for name in names]
        if not names or meanings[0] or parts[0] or vocabulary.holds_masks(names[0]):
            continue
        if any(parts) or (any(meanings) and not any(map(vocabulary.holds_masks, names))):
            found.append(files.inside(path)[0])
    if found:
        raise InputError(
            f"{files.base}: holds no images of one set itself; set dataset.category to one of its folders: "
            f"{', '.join(list(dict.fromkeys(found))[:20])}"
        )


def _keep_normal_for_test(layout: Layout, base: Path) -> int:
    """Move a fifth of the training images to the test when it has no normal one; the rest must be 2 at least."""
    if any(file.subset == "test" and file.is_normal for file in layout.images):
        return 0
    training = [file for file in layout.images if file.subset == "train"]
    count = max(min(max(round(_TEST_SHARE * len(training)), 1), len(training) - 2), 0)
    ranked = sorted(training, key=lambda file: hashlib.sha256(_name_bytes(file.path, base)).digest())
    kept = {file.path for file in ranked[:count]}
    layout.images = [replace(file, subset="test") if file.path in kept else file for file in layout.images]
    return count


def _name_bytes(path: Path, base: Path) -> bytes:
    """Return a file's path from the base, with slashes, as bytes; of a name that is no UTF-8 its own."""
    return path.relative_to(base).as_posix().encode(errors="surrogateescape")
