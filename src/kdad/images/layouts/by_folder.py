"""Sets whose folders say what images are: parts, kinds and masks, in any order that people use."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from kdad.errors import InputError
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import (
    ANOMALOUS_NAMES,
    MASK_WORDS,
    NO_PICTURES,
    NORMAL,
    UNLABELLED,
    WRAPPERS,
    FoundFiles,
    ImageFile,
    Layout,
    Meaning,
    Unused,
    Vocabulary,
    part_of,
    plain,
    subfolders,
    words_of,
)
from kdad.images.layouts.marks import Annotations, PlacedMask, label_by_marks, pair_ignored, pair_masks, unmarked

#: Words in the names of pictures that programs make of images.
_DERIVED = {
    *MASK_WORDS,
    *("heatmap", "heat", "overlay", "overlaid", "viz", "vis", "visualization", "visualisation", "blend", "contour"),
    *("contours", "pred", "prediction", "result", "annotated", "thumb", "thumbnail", "amap", "anomalymap"),
}


@dataclass(frozen=True)
class _File:
    """An image file by the folders around it: its part, the names that may be its kind, which is, its meaning."""

    path: Path
    part: Subset | None
    names: tuple[str, ...]
    called: str | None = None
    meaning: Meaning | None = None

    def with_kind(self, level: int, vocabulary: Vocabulary) -> "_File":
        if len(self.names) <= level:
            return self
        return replace(self, called=self.names[level], meaning=vocabulary.meaning(self.names[level]))

    def image(self, part: Subset) -> ImageFile:
        normal = self.called is None or self.meaning == "normal"
        return ImageFile(self.path, NORMAL if normal else self.called, part, self.called)

    @property
    def folder(self) -> Path:
        """The folder that says its kind."""
        return next(folder for folder in self.path.parents if folder.name == self.called)


def read_folders(files: FoundFiles, vocabulary: Vocabulary, annotations: Annotations) -> Layout:
    """Understand images by the folders that they lie in.

    A part is ``train``, ``validation`` or ``test``; the first folder with a normal or anomalous name, or else the first
    of all, is the kind; deeper ones say nothing. Without parts normal images train and others are tested. Where no
    folder says a kind, masks and annotations do. Raises `InputError` with a question when a name could mean either.
    """
    listed, masks, ignored, unused = _sort_out(files, vocabulary)
    has_parts = any(file.part for file in listed)
    outside = [file for file in listed if has_parts and file.part is None]
    listed = [file for file in listed if not has_parts or file.part]
    level = _level_of_kinds(listed, vocabulary, files.base)
    listed = [file.with_kind(level, vocabulary) for file in listed]
    _ask_about_drawings(listed, level, files.base, vocabulary)
    names = {file.path: _lower(file.names) for file in listed}
    by_marks = (masks or annotations.drawn) and not any(file.called for file in listed)
    if by_marks:
        images = [ImageFile(file.path, "defect", "test", drawn=annotations.drawn.get(file.path)) for file in listed]
        layout = Layout("images that masks or annotations are of, which say what is normal", images)
    else:
        layout = (_with_parts if has_parts else _without_parts)(listed, files.base)
    layout.unused += [*files.unused, *unused]
    layout.unused += [Unused(file.path, "beside the folders of the parts", True) for file in outside if not file.names]
    layout.problems += [
        f"{file.path}: lies outside of the parts; move it to train/good or test/<kind of defect>"
        for file in outside
        if file.names
    ]
    if has_parts:
        layout.problems += _empty_kinds(files.base)
    ownerless = pair_masks(layout, [PlacedMask(image.path, names[image.path]) for image in layout.images], masks)
    if by_marks:
        parts = {file.path: annotations.parts.get(file.path, file.part) for file in listed}

        def is_normal(path: Path) -> bool:
            return annotations.unmarked_is_normal or plain(path.parent.name) in map(plain, vocabulary.normal)

        label_by_marks(layout, vocabulary, parts, is_normal)
    else:
        _take_annotations(layout, annotations)
    pair_ignored(layout, ignored, files.inside)
    if vocabulary.ignore:
        layout.unused += [Unused(path, "a mask of no image that is used", True) for path in ownerless]
    elif masks and len(ownerless) == len(masks):
        name = next(name for name in files.inside(masks[0].path) if vocabulary.holds_masks(name))
        layout.problems.append(
            f"{masks[0].path}: is a mask without an image, as are all {len(masks)} of '{name}'; are they masks? Name "
            "each like its image, with _mask at the end; or, if they are images of a kind, say it: "
            f"dataset.layout.anomalous=['{name}']"
        )
    else:
        layout.problems += [
            f"{path}: is a mask without an image; name it like its image, with _mask at the end, or remove it"
            for path in ownerless
        ]
    return layout


def _sort_out(
    files: FoundFiles, vocabulary: Vocabulary
) -> tuple[list[_File], list[PlacedMask], list[Path], list[Unused]]:
    """Part masks, masks of what is ignored, and what is no picture from images."""
    listed, masks, ignored, unused = [], [], [], []
    for path in files.images:
        inside = files.inside(path)
        part = next(filter(None, map(part_of, inside)), None)
        # A folder of masks may be named after the kind, as ``bad_mask``.
        kinds = [unmarked(plain(name)) if vocabulary.holds_masks(name) else name for name in inside]
        names = tuple(name for name in kinds if name and not part_of(name) and plain(name) not in WRAPPERS)
        if any(plain(name) in UNLABELLED for name in inside):
            unused.append(Unused(path, "of a part whose labels are not published"))
        elif vocabulary.holds_ignored(inside):
            ignored.append(path)
        elif any(map(vocabulary.holds_masks, inside)):
            masks.append(PlacedMask(path, _lower(names)))
        elif any(plain(name) in NO_PICTURES for name in inside):
            unused.append(Unused(path, "coordinates (xyz), no picture"))
        else:
            listed.append(_File(path, part, names))
    return listed, masks, ignored, unused


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(plain, names))


def _level_of_kinds(listed: list[_File], vocabulary: Vocabulary, base: Path) -> int:
    """Return how deep below its part a normal kind's folder lies, 0 without any; asks when depths differ."""
    levels: dict[int, _File] = {}
    for file in listed:
        normal = [level for level, name in enumerate(file.names) if vocabulary.meaning(name) == "normal"]
        if normal:
            levels.setdefault(normal[0], file)
    if len(levels) > 1:
        places = " and ".join(str(file.path.parent) for file in list(levels.values())[:2])
        raise InputError(
            f"{base}: folders of normal images lie at different depths ({places}); which of them are kinds? Move them "
            "to one depth"
        )
    return next(iter(levels), 0)


def _empty_kinds(base: Path) -> list[str]:
    """Name folders of the test that hold nothing at all: an extraction that failed, or images elsewhere."""
    tests = [base / name for name in subfolders(base) if part_of(name) == "test"]
    kinds = [test / kind for test in tests for kind in subfolders(test)]
    return [f"{kind}: holds no images; add some, or remove the folder" for kind in kinds if not any(kind.iterdir())]


def _with_parts(listed: list[_File], base: Path) -> Layout:
    images: list[ImageFile] = []
    problems: list[str] = []
    notes: list[str] = []
    off: list[_File] = []
    for part in get_args(Subset):
        placed = [file for file in listed if file.part == part and file.called]
        loose = [file for file in listed if file.part == part and not file.called]
        _ask(placed, part, base)
        if part != "test" and loose and not placed:
            images += [file.image(part) for file in loose]
            notes.append(f"{len(loose)} images lie in {part} itself, and are taken as normal")
            continue
        if part == "test":
            images += _by_kind(file.image(part) for file in placed)
        else:
            images += [file.image(part) for file in placed if file.meaning == "normal"]
            off += [file for file in placed if file.meaning != "normal"]
        place = "test/good or test/<kind of defect>" if part == "test" else f"{part}/good"
        problems += [f"{file.path}: lies outside a kind's folder; move it to {place}" for file in loose]
    return Layout("parts with kinds (as MVTec AD)", images, _not_to_train_on(off, base) + problems, notes=notes)


def _without_parts(listed: list[_File], base: Path) -> Layout:
    """Normal images train, others are tested."""
    placed = [file for file in listed if file.called]
    loose = [file for file in listed if not file.called]
    if not placed:
        return Layout("images alone, all normal", [file.image("train") for file in loose])
    if not any(file.meaning == "normal" for file in placed):
        if not loose or any(file.meaning != "anomalous" for file in placed):
            raise InputError(_which_are_normal(placed, base))
        images = [file.image("test" if file.called else "train") for file in listed]
        note = f"images that lie in {base.name} itself are taken as normal"
        return Layout("normal images, and anomalous ones in folders", images, notes=[note])
    _ask(placed, None, base)
    problems = [f"{file.path}: lies outside a kind's folder; move it to good or <kind of defect>" for file in loose]
    images = _by_kind(file.image("train" if file.meaning == "normal" else "test") for file in placed)
    return Layout("kinds side by side", images, problems)


def _by_kind(images: Iterable[ImageFile]) -> list[ImageFile]:
    """Return images in the order of the kinds' folders."""
    return sorted(images, key=lambda image: (image.called, image.path))


def _not_to_train_on(placed: list[_File], base: Path) -> list[str]:
    """Say what to do with folders of a part that is of normal images."""
    folders = sorted({file.folder for file in placed if file.meaning != "normal"})
    ignored = quoted([folder.relative_to(base).as_posix() for folder in folders])
    return [
        f"{folder}: only normal images train; move it to test/{folder.name}, or leave it out: "
        f"dataset.layout.ignore=[{ignored}]"
        for folder in folders
    ]


def _ask(placed: list[_File], part: Subset | None, base: Path) -> None:
    """Raise a question for names that are nearly normal, or for training images none of whose names is known."""
    counted = Counter(file.called for file in placed)
    doubtful = [file for file in placed if file.meaning == "doubtful"]
    masks = sorted((file for file in placed if file.meaning == "masks?"), key=lambda file: file.called)
    for file in doubtful[:1]:
        raise InputError(
            f"{file.folder}: are its {counted[file.called]} images normal, or a kind of defect? Say it: "
            f"dataset.layout.normal=['{file.called}'] or dataset.layout.anomalous=['{file.called}']"
        )
    for file in masks[:1]:
        raise InputError(
            f"{file.folder}: does it hold {counted[file.called]} masks, or images of a kind? Say it: "
            f"dataset.layout.masks=['{file.called}'] or dataset.layout.anomalous=['{file.called}']"
        )
    if part in ("train", "validation") and placed and all(file.meaning == "unknown" for file in placed):
        raise InputError(
            f"{base}: {part} holds {_listed(sorted(counted))}, and none is a name of normal images; name those that "
            "hold normal images, and no others: dataset.layout.normal=[NAME, ...]"
        )


def _which_are_normal(placed: list[_File], base: Path) -> str:
    """Return the question that folders without a normal name raise; what is anomalous by name is not asked about."""
    counted = Counter(file.called for file in placed)
    if all(file.meaning == "anomalous" for file in placed):
        return (
            f"{base}: holds anomalous images alone ({_listed(sorted(counted))}), and there are no normal images to "
            "train on; put them in good, beside them"
        )
    shown = ", ".join(f"{name} ({counted[name]} images)" for name in sorted(counted)[:8])
    # Nothing is proposed but names that say it themselves: who copies an answer must not train on defects.
    normal = [name for name in sorted(counted) if words_of(name) & {"good", "normal", "ok"} and _is_plainly(name)]
    return (
        f"{base}: which of its folders hold normal images: {shown}? None has a name of normal images (good, normal, "
        "ok, pass, negative); name those that do, and no others: "
        f"dataset.layout.normal=[{quoted(normal) or 'NAME, ...'}]"
    )


def _is_plainly(name: str) -> bool:
    """Tell whether a name with a normal word in it has no other that may deny it (``not_ok_2``, ``ok_or_defect``)."""
    return not words_of(name) & {*ANOMALOUS_NAMES, "not", "no", "non", "or", "and", "un"}


def _take_annotations(layout: Layout, annotations: Annotations) -> None:
    """Give anomalous images what annotations mark in them; what is marked in normal ones is a problem."""
    drawn = annotations.drawn
    marked = [image for image in layout.images if image.is_normal and image.path in drawn and drawn[image.path].shapes]
    layout.problems += [
        f"{drawn[image.path].shapes[0].where}: marks '{drawn[image.path].kind}' in {image.path}, which is normal by "
        f"'{image.called or 'its place'}'; move the image to a kind of defect, or correct the annotation"
        for image in marked
    ]
    layout.images = [
        image if image.is_normal else replace(image, drawn=drawn.get(image.path)) for image in layout.images
    ]


def _ask_about_drawings(listed: list[_File], level: int, base: Path, vocabulary: Vocabulary) -> None:
    """Raise a question for masks, overlays and the like among the images of a kind."""
    answered = set(map(plain, vocabulary.normal + vocabulary.anomalous))
    stems: dict[Path, set[str]] = {}
    for file in listed:
        stems.setdefault(file.path.parent, set()).add(file.path.stem)
    found: dict[str, list[_File]] = {}
    for file in listed:
        deeper = [name for name in file.names[level + 1 :] if words_of(name) & _DERIVED]
        if answered & {plain(name) for name in file.names}:
            continue
        if file.path.parent.name.endswith("_json") and stems[file.path.parent] & {"label", "label_viz"}:
            found.setdefault("*_json", []).append(file)  # what labelme_json_to_dataset writes
        elif deeper:
            found.setdefault(deeper[0], []).append(file)
        elif pattern := _drawn_from(file.path, stems[file.path.parent]):
            found.setdefault(pattern, []).append(file)
    if not found:
        return
    (first, *more), places = [file for files in found.values() for file in files], list(found)
    kinds = sorted({file.called for file in (first, *more) if file.called and file.meaning != "normal"})
    masks = [name for name in places if "*" not in name and not Path(name).suffix]
    answers = [f"if they are masks, dataset.layout.masks=[{quoted(masks)}]"] if masks else []
    answers += [f"if they are images of a kind, dataset.layout.anomalous=[{quoted(kinds)}]"] if kinds else []
    raise InputError(
        f"{first.path}: this and {len(more)} more files below {base} seem to be masks, or drawings of other images, "
        f"and lie among images; leave them out: dataset.layout.ignore=[{quoted(places)}]"
        + "".join(f"; {answer}" for answer in answers)
    )


def _drawn_from(path: Path, stems: set[str]) -> str | None:
    """Return a pattern of names like this one, if it is an image's with a word of drawings, or such words alone."""
    for cut in (place for place, letter in enumerate(path.stem) if letter in "_-"):
        if path.stem[:cut] in stems and words_of(path.stem[cut:]) & _DERIVED:
            return f"*{path.stem[cut:]}{path.suffix}"
    alone = not any(map(str.isdigit, path.stem)) and words_of(path.stem) <= _DERIVED
    return path.name if alone else None


def _listed(names: list[str]) -> str:
    return "the folder " + names[0] if len(names) == 1 else "the folders " + ", ".join(names[:8])


def quoted(names: Iterable[str]) -> str:
    """Return names as a parameter takes them."""
    return ", ".join(f"'{name}'" for name in names)
