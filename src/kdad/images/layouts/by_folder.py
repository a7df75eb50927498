"""Sets whose folders say what images are: parts, kinds and masks, in any order that people use."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from kdad.errors import InputError
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import (
    NO_PICTURES,
    NORMAL,
    WRAPPERS,
    FoundFiles,
    ImageFile,
    Layout,
    Meaning,
    Unused,
    Vocabulary,
    part_of,
    plain,
    sounds_anomalous,
    subfolders,
)
from kdad.images.layouts.masks import PlacedMask, pair_masks, unmarked


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


def read_folders(files: FoundFiles, vocabulary: Vocabulary) -> Layout:
    """Understand images by the folders that they lie in.

    A part is ``train``, ``validation`` or ``test``; the first folder with a normal or anomalous name, or else the first
    of all, is the kind; deeper ones say nothing. Without parts normal images train and others are tested. Raises
    `InputError` with a question when a name could mean either.
    """
    listed, masks, unused = _sort_out(files, vocabulary)
    has_parts = any(file.part for file in listed)
    outside = [file for file in listed if has_parts and file.part is None]
    listed = [file for file in listed if not has_parts or file.part]
    level = _level_of_kinds(listed, vocabulary, files.base)
    listed = [file.with_kind(level, vocabulary) for file in listed]
    layout = (_with_parts if has_parts else _without_parts)(listed, files.base)
    layout.unused += [*files.unused, *unused]
    layout.unused += [Unused(file.path, "beside the folders of the parts") for file in outside if not file.names]
    layout.problems += [
        f"{file.path}: lies outside of the parts; move it to train/good or test/<kind of defect>"
        for file in outside
        if file.names
    ]
    if has_parts:
        layout.problems += _empty_kinds(files.base)
    names = {file.path: _lower(file.names) for file in listed}
    ownerless = pair_masks(layout, [PlacedMask(image.path, names[image.path]) for image in layout.images], masks)
    if masks and len(ownerless) == len(masks):
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


def _sort_out(files: FoundFiles, vocabulary: Vocabulary) -> tuple[list[_File], list[PlacedMask], list[Unused]]:
    """Part masks and what is no picture from images."""
    listed, masks, unused = [], [], []
    for path in files.images:
        inside = files.inside(path)
        part = next(filter(None, map(part_of, inside)), None)
        # A folder of masks may be named after the kind, as ``bad_mask``.
        kinds = [unmarked(plain(name)) if vocabulary.holds_masks(name) else name for name in inside]
        names = tuple(name for name in kinds if name and not part_of(name) and plain(name) not in WRAPPERS)
        if any(map(vocabulary.holds_masks, inside)):
            masks.append(PlacedMask(path, _lower(names)))
        elif any(plain(name) in NO_PICTURES for name in inside):
            unused.append(Unused(path, "coordinates (xyz), no picture"))
        else:
            listed.append(_File(path, part, names))
    return listed, masks, unused


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
            problems += _not_to_train_on(placed, part)
        place = "test/good or test/<kind of defect>" if part == "test" else f"{part}/good"
        problems += [f"{file.path}: lies outside a kind's folder; move it to {place}" for file in loose]
    return Layout("parts with kinds (as MVTec AD)", images, problems, notes=notes)


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


def _not_to_train_on(placed: list[_File], part: Subset) -> list[str]:
    """Say what to do with folders of a part that is of normal images."""
    first = {file.called: file for file in reversed(placed) if file.meaning != "normal"}
    problems = []
    for called, file in sorted(first.items()):
        other = "" if file.meaning == "anomalous" else f", or into {part}/good if its images are normal"
        problems.append(f"{file.folder}: only normal images train; move it to test/{called}{other}")
    return problems


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
        unknown = sorted(counted)
        raise InputError(
            f"{base}: {part} holds {_listed(unknown)}, and none is a name of normal images; if all of them are normal, "
            f"say it: dataset.layout.normal=[{_quoted(unknown)}]"
        )


def _which_are_normal(placed: list[_File], base: Path) -> str:
    """Return the question that folders without a normal name raise; what is anomalous by name is not asked about."""
    counted = Counter(file.called for file in placed)
    unknown = sorted({file.called for file in placed if file.meaning != "anomalous"})
    if not unknown:
        return (
            f"{base}: holds anomalous images alone ({_listed(sorted(counted))}), and there are no normal images to "
            "train on; put them in good, beside them"
        )
    shown = ", ".join(f"{name} ({counted[name]} images)" for name in sorted(counted)[:8])
    doubtful = sorted({file.called for file in placed if file.meaning == "doubtful"})
    advice = f"dataset.layout.normal=[{_quoted(doubtful) or 'NAME, ...'}]"
    if not doubtful and not any(map(sounds_anomalous, counted)):
        advice += f", or, if all are, dataset.layout.normal=[{_quoted(unknown)}]"
    return (
        f"{base}: which of its folders hold normal images: {shown}? None has a name of normal images (good, normal, "
        f"ok, pass, negative); name those that do: {advice}"
    )


def _listed(names: list[str]) -> str:
    return "the folder " + names[0] if len(names) == 1 else "the folders " + ", ".join(names[:8])


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
