"""Which layout the files of a folder or list have, and what is said of it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kdad.errors import InputError, first_of
from kdad.images.files.decoding import EXTENSION_NAMES, read_ahead, reading_threads
from kdad.images.files.mask_files import MaskFacts
from kdad.images.layouts.by_folder import quoted, read_folders
from kdad.images.layouts.layout import (
    ANOMALOUS_NAMES,
    WRAPPERS,
    FoundFiles,
    ImageFile,
    Layout,
    Unused,
    Vocabulary,
    find_files,
    group_of,
    part_of,
    plain,
    speaks_of_parts,
    words_of,
)
from kdad.images.layouts.lists import find_dagm, find_real_iad, read_csv_list, read_dagm, read_real_iad, read_rows
from kdad.images.layouts.marks import Annotations, label_by_marks, masks_beside, pair_ignored, read_annotations

_TEST_SHARE = 0.2
_VISA = Path("split_csv") / "1cls.csv"
_SHOWN = 8


def read_layout(base: Path, vocabulary: Vocabulary, groups: str | None = None, region: Path | None = None) -> Layout:
    """Understand the images below `base`: by VisA's, Real-IAD's or DAGM's list, folders, masks or annotations.

    Where no normal image is marked for the test, a fifth of the good ones, chosen by their ids, is kept for it, so that
    there are normal scores. `groups` are those of ``dataset.groups``; they are kept together; `region` is a file that
    is no image. Raises `InputError` when there is no image, several categories, or a question to answer.
    """
    base = base.absolute()
    visa, real_iad = base.parent / _VISA, find_real_iad(base)
    if visa.is_file():
        rows = read_csv_list(visa, base.name, f"{base.name}/").rows
        layout = read_rows(rows, base, vocabulary, f"the list {visa} (VisA)")
    elif real_iad is not None:
        layout = read_rows(read_real_iad(real_iad), base, vocabulary, f"the list {real_iad} (Real-IAD)", strict=False)
    elif dagm := find_dagm(base):
        layout = read_rows(read_dagm(dagm), base, vocabulary, "the lists Labels.txt (DAGM 2007)", strict=False)
    else:
        files = find_files(base, vocabulary.ignore)
        images = [path for path in files.images if path != region]
        others = [Unused(one.path, "") if one.path == region else one for one in files.unused]
        others += [Unused(path, "") for path in files.images if path == region]
        layout = _by_files(replace(files, images=images, unused=others), vocabulary)
    return _complete(layout, base, groups, region)


def read_list(
    file: Path, category: str | None, vocabulary: Vocabulary, groups: str | None = None, region: Path | None = None
) -> Layout:
    """Understand a CSV list, whose paths begin from its own folder; raises `InputError` as `read_csv_list` does."""
    if not file.is_file():
        raise InputError(f"dataset.root: there is no file {file}; give the CSV file that lists the images")
    base = file.absolute().parent
    listed = read_csv_list(file, category, groups=groups)
    layout = read_rows(listed.rows, base, vocabulary, f"the list {file.name} (CSV)", listed.elsewhere)
    if listed.unknown:
        said = "columns of the list that are not known, and used only where all their cells are parts"
        layout.notes.insert(0, f"{said}: {', '.join(listed.unknown)}")
    return _complete(layout, base, groups, region)


def _complete(layout: Layout, base: Path, groups: str | None, region: Path | None) -> Layout:
    """Keep normal images for a test that has none, and say what is missing or sounds wrong."""
    layout.unused = [Unused(one.path, "the region") if one.path == region else one for one in layout.unused]
    if groups is not None:
        _group(layout, base, groups)
    called = {file.called for file in layout.images if file.is_normal and file.called}
    layout.notes[:0] = [
        f"'{name}' sounds anomalous, and is taken as normal, as dataset.layout.normal says"
        for name in sorted(called)
        if Vocabulary().meaning(name) != "normal" and words_of(name) & set(ANOMALOUS_NAMES)
    ]
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


def _group(layout: Layout, base: Path, groups: str) -> None:
    """Say of which group each image is that no list has said it of; a name without one is a problem."""
    grouped = []
    for image in layout.images:
        group = image.group or group_of(image.path, base, groups)
        if group is None:
            layout.problems.append(
                f"{image.path}: its name has no group by dataset.groups '{groups}'; correct the pattern, or leave "
                "the file out by dataset.layout.ignore"
            )
        grouped.append(replace(image, group=group))
    layout.images = grouped
    names = list(dict.fromkeys(image.group for image in grouped if image.group))
    if names:
        layout.notes.append(f"{len(grouped)} images are of {len(names)} groups ({groups}): {first_of(names, 3)}")


def _by_files(files: FoundFiles, vocabulary: Vocabulary) -> Layout:
    if not files.images:
        raise InputError(
            f"{files.base}: holds no images ({EXTENSION_NAMES}); expected train/good and test/<kind>, good and <kind>, "
            "or good images alone"
        )
    _refuse_categories(files, vocabulary)
    masks = [path for path in files.images if any(map(vocabulary.holds_masks, files.inside(path)))]
    outside_masks = sorted(set(files.images) - set(masks))
    beside = masks_beside(outside_masks)
    taken = {mask for of_image in beside.values() for mask in of_image}
    images = [path for path in outside_masks if path not in taken]
    annotations = read_annotations(files, images, vocabulary)
    files = replace(files, images=sorted([*images, *masks]), unused=annotations.unused)
    layout = _by_images(files, images, beside, vocabulary, annotations)
    layout.problems = annotations.problems + layout.problems
    layout.notes += annotations.notes
    return layout


def _by_images(
    files: FoundFiles,
    images: list[Path],
    beside: dict[Path, list[Path]],
    vocabulary: Vocabulary,
    annotations: Annotations,
) -> Layout:
    if not beside:
        return read_folders(files, vocabulary, annotations)
    taken = {mask for masks in beside.values() for mask in masks}
    named = any(vocabulary.meaning(name) in ("normal", "anomalous") for path in images for name in files.inside(path))
    if not named:
        without = [path for path in images if path not in beside]
        if without:
            raise InputError(
                f"{without[0]}: has no mask beside it, as {len(beside)} other images have, and lies in no folder that "
                "says what it is; is it normal? Add a mask, an empty one for a normal image, or put it into a folder "
                "good"
            )
        marked = [ImageFile(path, "defect", "test", masks=tuple(masks)) for path, masks in sorted(beside.items())]
        layout = Layout("masks beside images, which say what is normal (as Kolektor)", marked, unused=files.unused)
        in_folders = set(files.images) - set(images)
        ignored = sorted(path for path in in_folders if vocabulary.holds_ignored(files.inside(path)))
        reason = "in a folder of masks, where masks lie beside images"
        layout.unused += [Unused(path, reason, True) for path in sorted(in_folders - set(ignored))]
        parts = {path: next(filter(None, map(part_of, files.inside(path))), None) for path in beside}
        label_by_marks(layout, vocabulary, parts, lambda path: False)
        pair_ignored(layout, ignored, files.inside)
        return layout
    layout = read_folders(files, vocabulary, annotations)
    normal = [image.path for image in layout.images if image.is_normal]
    layout.masks_of_normal += [(path, mask) for path in normal for mask in beside.get(path, ())]
    layout.images = [
        image if image.is_normal else replace(image, masks=(*image.masks, *beside.get(image.path, ())))
        for image in layout.images
    ]
    layout.notes.append(f"{len(taken)} files beside images are their masks, by their names ({min(taken).name})")
    return layout


def _refuse_categories(files: FoundFiles, vocabulary: Vocabulary) -> None:
    """Raise `InputError` when the images are in folders of which each is a set of its own."""
    categories, parted = [], set()
    for path in files.images:
        names = [name for name in files.inside(path) if plain(name) not in WRAPPERS]
        meanings = [vocabulary.meaning(name) in ("normal", "anomalous") for name in names]
        parts = [part_of(name) is not None for name in names]
        if not names or meanings[0] or parts[0] or vocabulary.holds_masks(names[0]):
            continue
        if speaks_of_parts(names[0]) and not any(parts):
            parted.add(names[0])
        elif any(parts) or (any(meanings) and not any(map(vocabulary.holds_masks, names))):
            categories.append(files.inside(path)[0])
    if parted and not any(part_of(name) for path in files.images for name in files.inside(path)):
        raise InputError(
            f"{files.base}: which parts are {', '.join(sorted(parted)[:8])}? Call each train, validation or test, or "
            "leave it out by dataset.layout.ignore; a part of a set is no category"
        )
    if categories:
        raise InputError(
            f"{files.base}: holds no images of one set itself; set dataset.category to one of its folders: "
            f"{', '.join(list(dict.fromkeys(categories))[:20])}"
        )


def _keep_normal_for_test(layout: Layout, base: Path) -> int:
    """Move a fifth of the training images to the test when it has no normal one; the rest must be 2 at least."""
    if any(file.subset == "test" and file.is_normal for file in layout.images):
        return 0

    def rank(name: str) -> bytes:  # a name that is no UTF-8 has bytes too
        return hashlib.sha256(name.encode(errors="surrogateescape")).digest()

    training: dict[str, list[Path]] = {}
    for file in layout.images:
        if file.subset == "train":
            training.setdefault(file.group or file.path.relative_to(base).as_posix(), []).append(file.path)
    count = max(min(max(round(_TEST_SHARE * len(training)), 1), len(training) - 2), 0)
    kept = {path for together in sorted(training, key=rank)[:count] for path in training[together]}
    layout.images = [replace(file, subset="test") if file.path in kept else file for file in layout.images]
    return len(kept)


def describe_layout(layout: Layout, base: Path) -> list[tuple[str, str]]:
    """Say how files lie, which names were taken as normal and anomalous, what was decided, what is not used and why."""
    remarks = [("layout", f"{layout.name}, in {base}")]
    for title, normal in (("taken as normal", True), ("taken as anomalous", False)):
        called = Counter(file.called or "no folder" for file in layout.images if file.is_normal == normal)
        names = [f"{count} by '{name}'" for name, count in called.most_common(_SHOWN)]
        more = [f"and {len(called) - _SHOWN} more names"] if len(called) > _SHOWN else []
        remarks.append((title, ", ".join(names + more) or "none"))
    remarks += [("note", note) for note in layout.notes]
    unused = layout.unused + [Unused(mask, "an empty mask of a normal image") for _, mask in layout.masks_of_normal]
    first = {file.reason: file for file in reversed(unused)}
    counted = Counter(file.reason for file in unused).most_common()
    not_used = [
        f"{count} x {reason}, such as {first[reason].path.relative_to(base).as_posix()}"
        for reason, count in sorted(counted, key=lambda each: not first[each[0]].matters)
    ]
    said = ("not used", "; ".join(not_used) or "nothing: every file below it is used")
    # What may say something of the images is said first.
    return [said, *remarks] if any(file.matters for file in unused) else [*remarks, said]


def describe_masks(layout: Layout, masks: dict[int, MaskFacts]) -> tuple[str, str]:
    """Say how many anomalous images have masks, and what is unusual about them; `masks` are those that were read."""
    anomalous = [file for file in layout.images if not file.is_normal]
    without = sum(not file.is_marked for file in anomalous)
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
    partial = [index for index, facts in masks.items() if layout.images[index].masks and 0 < facts.share < 1]
    inverted = [index for index in partial if masks[index].looks_inverted]
    if not inverted or 2 * len(inverted) < len(partial):
        return []
    share = sum(masks[index].share for index in inverted) / len(inverted)
    return [
        f"{layout.images[inverted[0]].masks[0]}: this and {len(inverted) - 1} more of {len(masks)} masks mark "
        f"{share:.0%} of their image, corners and all; which pixels are anomalous? Say it: "
        "dataset.layout.anomalous_in_masks=dark where masks are black on white, or bright if they are right as they are"
    ]


def ask_about_marks(layout: Layout, marks: Callable[[Path], bool], base: Path) -> list[str]:
    """Return a question, as a problem, about normal images whose own masks mark something."""
    pairs = layout.masks_of_normal
    marked = read_ahead(lambda pair: marks(pair[1]), pairs, reading_threads())
    found = [pair for pair, marks_something in zip(pairs, marked, strict=True) if marks_something]
    if not found:
        return []
    (image, mask), paths = found[0], [path for pair in found[:20] for path in pair]
    names = quoted(path.relative_to(base).as_posix() for path in dict.fromkeys(paths))
    return [
        f"{mask}: marks something in {image}, which is normal by its folder, as do the masks of {len(found) - 1} more; "
        "are they anomalous? Move them to a kind of defect, or empty their masks, or leave these images out: "
        f"dataset.layout.ignore=[{names}]"
    ]


def ask_for_masks(layout: Layout, two_valued: set[int], constant: set[int], known: Sequence[str]) -> list[str]:
    """Return questions, as problems, about kinds whose images hold two values each, as masks do, and normal ones many.

    Images of two values that have the name of another one are asked about too. `two_valued` are the rows of such
    images, `constant` those of one value, as empty masks; `known` the names that were said to be of anomalous images.
    """
    if any(layout.images[row].is_normal for row in two_valued):
        return []
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(layout.images):
        if file.called is not None and not file.is_normal and file.called not in known:
            rows.setdefault(file.called, []).append(row)
    twins = [twin for of_kind in rows.values() for twin in _marks_of_twins(of_kind, layout, two_valued)]
    if twins:
        first = layout.images[twins[0]]
        pattern = f"*{first.path.parent.name}/*{first.path.suffix}"
        return [
            f"{first.path}: this and {len(twins) - 1} more images hold two values each, as masks do, and have the name "
            "of an image beside them; if they are its masks, put _mask at the end of their names, or leave them out: "
            f"dataset.layout.ignore=['{pattern}']; if they are images, dataset.layout.anomalous=['{first.called}']"
        ]
    return [
        f"{layout.images[of_kind[0]].path}: this and the {len(of_kind) - 1} other images of '{called}' hold two values "
        f"each, as masks do; are they masks? Say it: dataset.layout.masks=['{called}'], or, if they are images of a "
        f"kind, dataset.layout.anomalous=['{called}']"
        for called, of_kind in sorted(rows.items())
        if (two_valued | constant).issuperset(of_kind) and 2 * len(two_valued.intersection(of_kind)) > len(of_kind)
    ]


def _marks_of_twins(rows: list[int], layout: Layout, two_valued: set[int]) -> list[int]:
    """Return the rows of images of two values beside which one of their name holds more."""
    images = {layout.images[row].path.with_suffix("") for row in rows if row not in two_valued}
    return [row for row in rows if row in two_valued and layout.images[row].path.with_suffix("") in images]
