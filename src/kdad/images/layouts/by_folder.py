"""Sets whose folders say what images are: parts, kinds and masks, in any order that people use."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdad.errors import InputError
from kdad.images.image_set import Subset
from kdad.images.layouts.files import FoundFiles, Unused, subfolders
from kdad.images.layouts.layout import ImageFile, Layout
from kdad.images.layouts.masks import Placed, pair_masks
from kdad.images.layouts.names import NO_PICTURES, NORMAL, WRAPPERS, Vocabulary, part_of, plain

_PARTS: tuple[Subset, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class _Lying:
    """An image file by the folders around it: its part, and the names that may be its kind."""

    path: Path
    part: Subset | None
    names: tuple[str, ...]


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
    kinds = _Kinds(files.base, vocabulary, level)
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
    places = [Placed(image.path, _lower(by_path[image.path].names)) for image in layout.images]
    paired = pair_masks(layout.images, places, masks)
    layout.images = paired.images
    layout.problems += paired.problems
    if masks and len(paired.ownerless) == len(masks):
        layout.problems.append(_ask_for_masks(masks, files, vocabulary))
    else:
        layout.problems += [
            f"{path}: is a mask without an image; name it like its image, with _mask at the end, or remove it"
            for path in paired.ownerless
        ]
    layout.unused += [Unused(path, "a mask of a normal image, which needs none") for path in paired.of_normal]
    return layout


def _sort_out(files: FoundFiles, vocabulary: Vocabulary) -> tuple[list[_Lying], list[Placed], list[Unused]]:
    """Part masks and what is no picture from images."""
    lying, masks, unused = [], [], []
    for path in files.images:
        inside = files.inside(path)
        part = next((part for part in map(part_of, inside) if part), None)
        names = tuple(
            name
            for name in inside
            if not part_of(name) and plain(name) not in WRAPPERS and not vocabulary.holds_masks(name)
        )
        if any(map(vocabulary.holds_masks, inside)):
            masks.append(Placed(path, _lower(names)))
        elif any(plain(name) in NO_PICTURES for name in inside):
            unused.append(Unused(path, "coordinates (xyz), no picture"))
        else:
            lying.append(_Lying(path, part, names))
    return lying, masks, unused


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(plain, names))


def _level_of_kinds(lying: list[_Lying], vocabulary: Vocabulary, base: Path) -> int:
    """Return how deep below its part a normal kind's folder lies, 0 without any; asks when depths differ."""
    levels: dict[int, _Lying] = {}
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


@dataclass(frozen=True)
class _Kinds:
    """From the names around images to kinds."""

    base: Path
    vocabulary: Vocabulary
    level: int

    def with_parts(self, lying: list[_Lying]) -> Layout:
        images: list[ImageFile] = []
        problems: list[str] = []
        notes: list[str] = []
        for part in _PARTS:
            own = [found for found in lying if found.part == part]
            self._ask(own, part)
            loose = [found for found in own if self._called(found) is None]
            if part != "test" and loose and len(loose) == len(own):
                images += [ImageFile(found.path, NORMAL, part) for found in loose]
                notes.append(f"{len(loose)} images lie in {part} itself, and are taken as normal")
                continue
            place = "test/good or test/<kind of defect>" if part == "test" else f"{part}/good"
            placed = [self._image(found, part) for found in own if self._called(found) is not None]
            if part == "test":
                images += sorted(placed, key=lambda image: (image.called, image.path))
            else:
                images += [image for image in placed if image.is_normal]
                problems += self._not_to_train_on(own, part)
            problems += [f"{found.path}: lies outside a kind's folder; move it to {place}" for found in loose]
        name = "parts with kinds (as MVTec AD)"
        return Layout(name, images, problems, notes=notes)

    def without_parts(self, lying: list[_Lying]) -> Layout:
        called = {self._called(found) for found in lying}
        named = {name for name in called if name is not None}
        if not named:
            images = [ImageFile(found.path, NORMAL, "train") for found in lying]
            return Layout("images alone, all normal", images)
        if not any(self.vocabulary.meaning(name) == "normal" for name in named):
            if None in called and all(self.vocabulary.meaning(name) == "anomalous" for name in named):
                images = [
                    ImageFile(found.path, NORMAL, "train")
                    if self._called(found) is None
                    else self._image(found, "test")
                    for found in lying
                ]
                note = f"images that lie in {self.base.name} itself are taken as normal"
                return Layout("normal images, and anomalous ones in folders", images, notes=[note])
            self._ask_for_normal(lying, named)
        self._ask(lying, None)
        problems = [
            f"{found.path}: lies outside a kind's folder; move it to good or <kind of defect>"
            for found in lying
            if self._called(found) is None
        ]
        placed = [found for found in lying if self._called(found) is not None]
        images = [self._image(found, "train" if self._is_normal(found) else "test") for found in placed]
        # In the order of the kinds' folders.
        images.sort(key=lambda image: (image.called, image.path))
        return Layout("kinds side by side", images, problems)

    def _not_to_train_on(self, lying: list[_Lying], part: Subset) -> list[str]:
        """Say what to do with folders of a part that is of normal images."""
        problems = []
        first = {self._called(found): found for found in reversed(lying) if not self._is_normal(found)}
        for called in sorted(name for name in first if name is not None):
            known = self.vocabulary.meaning(called) == "anomalous"
            other = "" if known else f", or into {part}/good if its images are normal"
            folder = self._folder_of(first[called], called)
            problems.append(f"{folder}: only normal images train; move it to test/{called}{other}")
        return problems

    def _called(self, found: _Lying) -> str | None:
        """Return the name that says what an image is."""
        deep = len(found.names) > self.level
        return found.names[self.level] if deep else None

    def _is_normal(self, found: _Lying) -> bool:
        called = self._called(found)
        return called is not None and self.vocabulary.meaning(called) == "normal"

    def _image(self, found: _Lying, part: Subset) -> ImageFile:
        called = self._called(found)
        return ImageFile(found.path, NORMAL if self._is_normal(found) else called, part, called)

    def _folder_of(self, found: _Lying, called: str) -> Path:
        return next(folder for folder in found.path.parents if folder.name == called)

    def _ask(self, lying: list[_Lying], part: Subset | None) -> None:
        """Raise a question for names that are nearly normal, or for training images none of whose names is known."""
        counted = Counter(self._called(found) for found in lying)
        counted.pop(None, None)
        doubtful = [name for name in counted if self.vocabulary.meaning(name) == "doubtful"]
        if doubtful:
            folder = self._folder_of(next(f for f in lying if self._called(f) == doubtful[0]), doubtful[0])
            raise InputError(
                f"{folder}: are its {counted[doubtful[0]]} images normal, or a kind of defect? Say it: "
                f"dataset.layout.normal=['{doubtful[0]}'] or dataset.layout.anomalous=['{doubtful[0]}']"
            )
        unknown = sorted(name for name in counted if self.vocabulary.meaning(name) == "unknown")
        if part in ("train", "validation") and unknown == sorted(counted) != []:
            raise InputError(
                f"{self.base}: {part} holds {_listed(unknown)}, and none is a name of normal images; if all of them "
                f"are normal, say it: dataset.layout.normal=[{_quoted(unknown)}]"
            )

    def _ask_for_normal(self, lying: list[_Lying], named: set[str]) -> None:
        """Raise a question when no folder has a normal name; what is anomalous by name is not asked about."""
        unknown = sorted(name for name in named if self.vocabulary.meaning(name) != "anomalous")
        counted = Counter(self._called(found) for found in lying)
        if not unknown:
            raise InputError(
                f"{self.base}: holds anomalous images alone ({_listed(sorted(named))}), and there are no normal images "
                "to train on; put them in good, beside them"
            )
        said = ", ".join(f"{name} ({counted[name]} images)" for name in sorted(named)[:8])
        raise InputError(
            f"{self.base}: which of its folders hold normal images: {said}? None has a name of normal images (good, "
            f"normal, ok, pass, negative); say it: dataset.layout.normal=['{unknown[0]}'], or, if all are, "
            f"dataset.layout.normal=[{_quoted(unknown)}]"
        )


def _ask_for_masks(masks: list[Placed], files: FoundFiles, vocabulary: Vocabulary) -> str:
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


def _listed(names: list[str]) -> str:
    return "the folder " + names[0] if len(names) == 1 else "the folders " + ", ".join(names[:8])


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
