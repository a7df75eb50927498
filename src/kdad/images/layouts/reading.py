"""Which layout the files of a folder or list have, and what is said of it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.mask_files import MaskFacts
from kdad.images.files.reading import EXTENSION_NAMES
from kdad.images.layouts.by_folder import read_folders
from kdad.images.layouts.layout import WRAPPERS, FoundFiles, Layout, Vocabulary, find_files, part_of, plain
from kdad.images.layouts.lists import find_real_iad, read_csv_list, read_real_iad, read_rows
from kdad.images.layouts.masks import labelled_by_masks, masks_beside

_TEST_SHARE = 0.2
_VISA = Path("split_csv") / "1cls.csv"
_SHOWN = 8


def read_layout(base: Path, vocabulary: Vocabulary) -> Layout:
    """Understand the images below `base`: by VisA's or Real-IAD's list, masks beside images, or folders.

    Where no normal image is marked for the test, a fifth of the good ones, chosen by their ids, is kept for it, so that
    there are normal scores. Raises `InputError` when there is no image, several categories, or a question to answer.
    """
    base = base.absolute()
    visa, real_iad = base.parent / _VISA, find_real_iad(base)
    if visa.is_file():
        rows = read_csv_list(visa, base.name, f"{base.name}/")
        layout = read_rows(rows, base, vocabulary, f"the list {visa} (VisA)")
    elif real_iad is not None:
        layout = read_rows(read_real_iad(real_iad), base, vocabulary, f"the list {real_iad} (Real-IAD)", strict=False)
    else:
        layout = _by_files(find_files(base), vocabulary)
    return _complete(layout, base)


def read_list(file: Path, category: str | None, vocabulary: Vocabulary) -> Layout:
    """Understand a CSV list, whose paths begin from its own folder; raises `InputError` as `read_csv_list` does."""
    if not file.is_file():
        raise InputError(f"dataset.root: there is no file {file}; give the CSV file that lists the images")
    base = file.absolute().parent
    rows = read_csv_list(file, category)
    return _complete(read_rows(rows, base, vocabulary, f"the list {file.name} (CSV)"), base)


def _complete(layout: Layout, base: Path) -> Layout:
    """Keep normal images for a test that has none, and say what is missing."""
    kept = _keep_normal_for_test(layout, base)
    if not any(file.is_normal and file.subset == "train" for file in layout.images):
        if not layout.problems:
            layout.problems.append(f"{base}: there are no normal images to train on; put them in train/good (or good)")
    elif not any(file.subset == "test" for file in layout.images):
        layout.problems.append(
            f"{base}: has too few images to keep one for the test; at least 3 normal ones are needed"
        )
    if kept:
        layout.notes.append(f"the test has no normal images, so {kept} of the training images are kept for it")
    return layout


def _by_files(files: FoundFiles, vocabulary: Vocabulary) -> Layout:
    if not files.images:
        raise InputError(
            f"{files.base}: holds no images ({EXTENSION_NAMES}); expected train/good and test/<kind>, good and <kind>, "
            "or good images alone"
        )
    _refuse_categories(files, vocabulary)
    outside_masks = [path for path in files.images if not any(map(vocabulary.holds_masks, files.inside(path)))]
    beside = masks_beside(outside_masks)
    if not beside:
        return read_folders(files, vocabulary)
    taken = {mask for masks in beside.values() for mask in masks}
    images = [path for path in outside_masks if path not in taken]
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
    layout = read_folders(replace(files, images=[path for path in files.images if path not in taken]), vocabulary)
    layout.images = [
        image if image.is_normal else replace(image, masks=(*image.masks, *beside.get(image.path, ())))
        for image in layout.images
    ]
    layout.notes.append(f"{len(taken)} files beside images are their masks, by their names ({min(taken).name})")
    return layout


def _refuse_categories(files: FoundFiles, vocabulary: Vocabulary) -> None:
    """Raise `InputError` when the images are in folders of which each is a set of its own."""
    categories = []
    for path in files.images:
        names = [name for name in files.inside(path) if plain(name) not in WRAPPERS]
        meanings = [vocabulary.meaning(name) in ("normal", "anomalous") for name in names]
        parts = [part_of(name) is not None for name in names]
        if not names or meanings[0] or parts[0] or vocabulary.holds_masks(names[0]):
            continue
        if any(parts) or (any(meanings) and not any(map(vocabulary.holds_masks, names))):
            categories.append(files.inside(path)[0])
    if categories:
        raise InputError(
            f"{files.base}: holds no images of one set itself; set dataset.category to one of its folders: "
            f"{', '.join(list(dict.fromkeys(categories))[:20])}"
        )


def _keep_normal_for_test(layout: Layout, base: Path) -> int:
    """Move a fifth of the training images to the test when it has no normal one; the rest must be 2 at least."""
    if any(file.subset == "test" and file.is_normal for file in layout.images):
        return 0

    def rank(path: Path) -> bytes:  # a name that is no UTF-8 has bytes too
        return hashlib.sha256(path.relative_to(base).as_posix().encode(errors="surrogateescape")).digest()

    training = [file.path for file in layout.images if file.subset == "train"]
    count = max(min(max(round(_TEST_SHARE * len(training)), 1), len(training) - 2), 0)
    kept = set(sorted(training, key=rank)[:count])
    layout.images = [replace(file, subset="test") if file.path in kept else file for file in layout.images]
    return count


def describe_layout(layout: Layout, base: Path) -> list[tuple[str, str]]:
    """Say how files lie, which names were taken as normal and anomalous, what was decided, what is not used and why."""
    remarks = [("layout", f"{layout.name}, in {base}")]
    for title, normal in (("taken as normal", True), ("taken as anomalous", False)):
        called = Counter(file.called or "no folder" for file in layout.images if file.is_normal == normal)
        names = [f"{count} by '{name}'" for name, count in called.most_common(_SHOWN)]
        more = [f"and {len(called) - _SHOWN} more names"] if len(called) > _SHOWN else []
        remarks.append((title, ", ".join(names + more) or "none"))
    remarks += [("note", note) for note in layout.notes]
    first = {file.reason: file.path for file in reversed(layout.unused)}
    not_used = [
        f"{count} x {reason}, such as {first[reason].relative_to(base).as_posix()}"
        for reason, count in Counter(file.reason for file in layout.unused).most_common()
    ]
    return [*remarks, ("not used", "; ".join(not_used) or "nothing: every file below it is used")]


def describe_masks(layout: Layout, masks: dict[int, MaskFacts]) -> tuple[str, str]:
    """Say how many anomalous images have masks, and what is unusual about them; `masks` are those that were read."""
    anomalous = [file for file in layout.images if not file.is_normal]
    without = sum(not file.masks for file in anomalous)
    if not anomalous:
        return "masks", "none are needed: no image is anomalous"
    if without == len(anomalous):
        return "masks", f"none for {len(anomalous)} anomalous images"
    facts = masks.values()
    counts = {
        "of several files": sum(len(file.masks) > 1 for file in anomalous),
        "empty in their files, so that their images are left out of pixel metrics": sum(not m.share for m in facts),
        "that vanish at the model's size": sum(m.share > 0 and not m.resized_share for m in facts),
        "of the whole image": sum(m.share == 1 for m in facts),
        "of more than half of it": sum(0.5 < m.share < 1 for m in facts),
        "have none, and are left out of pixel metrics": without,
    }
    unusual = [f"{count} {what}" for what, count in counts.items() if count]
    matched = f"matched for {len(anomalous) - without} of {len(anomalous)} anomalous images"
    return "masks", "; ".join([matched, *unusual])


def ask_for_inverted(layout: Layout, masks: dict[int, MaskFacts]) -> list[str]:
    """Return a question, as a problem, when at least half of the masks mark most of their image up to its corners."""
    partial = [index for index, facts in masks.items() if 0 < facts.share < 1]
    inverted = [index for index in partial if masks[index].looks_inverted]
    if not inverted or 2 * len(inverted) < len(partial):
        return []
    share = sum(masks[index].share for index in inverted) / len(inverted)
    return [
        f"{layout.images[inverted[0]].masks[0]}: this and {len(inverted) - 1} more of {len(masks)} masks mark "
        f"{share:.0%} of their image, corners and all; which pixels are anomalous? Say it: "
        "dataset.layout.anomalous_in_masks=dark where masks are black on white, or bright if they are right as they are"
    ]


def ask_for_masks(layout: Layout, two_valued: set[int], known: Sequence[str]) -> list[str]:
    """Return questions, as problems, about kinds whose images hold two values each, as masks do, and normal ones many.

    `two_valued` are the rows of such images, `known` the names that were said to be of anomalous images.
    """
    if any(layout.images[row].is_normal for row in two_valued):
        return []
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(layout.images):
        if file.called is not None and not file.is_normal and file.called not in known:
            rows.setdefault(file.called, []).append(row)
    return [
        f"{layout.images[of_kind[0]].path}: this and the {len(of_kind) - 1} other images of '{called}' hold two values "
        f"each, as masks do; are they masks? Say it: dataset.layout.masks=['{called}'], or, if they are images of a "
        f"kind, dataset.layout.anomalous=['{called}']"
        for called, of_kind in sorted(rows.items())
        if two_valued.issuperset(of_kind)
    ]
