"""From the names around images to their kinds, and questions where a name could mean either."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kdad.errors import InputError
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import ImageFile, Layout
from kdad.images.layouts.names import NORMAL, Vocabulary, sounds_anomalous

_PARTS: tuple[Subset, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class ListedFile:
    """An image file by the folders around it: its part, and the names that may be its kind."""

    path: Path
    part: Subset | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Kinds:
    """The kinds of images below `base`, by the names at `level` of those around them."""

    base: Path
    vocabulary: Vocabulary
    level: int

    def with_parts(self, lying: list[ListedFile]) -> Layout:
        """Read images of which each has a part."""
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

    def without_parts(self, lying: list[ListedFile]) -> Layout:
        """Read images without parts: normal ones train, others are tested."""
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

    def _not_to_train_on(self, lying: list[ListedFile], part: Subset) -> list[str]:
        """Say what to do with folders of a part that is of normal images."""
        problems = []
        first = {self._called(found): found for found in reversed(lying) if not self._is_normal(found)}
        for called in sorted(name for name in first if name is not None):
            known = self.vocabulary.meaning(called) == "anomalous"
            other = "" if known else f", or into {part}/good if its images are normal"
            folder = self._folder_of(first[called], called)
            problems.append(f"{folder}: only normal images train; move it to test/{called}{other}")
        return problems

    def _called(self, found: ListedFile) -> str | None:
        """Return the name that says what an image is."""
        deep = len(found.names) > self.level
        return found.names[self.level] if deep else None

    def _is_normal(self, found: ListedFile) -> bool:
        called = self._called(found)
        return called is not None and self.vocabulary.meaning(called) == "normal"

    def _image(self, found: ListedFile, part: Subset) -> ImageFile:
        called = self._called(found)
        return ImageFile(found.path, NORMAL if self._is_normal(found) else called, part, called)

    def _folder_of(self, found: ListedFile, called: str) -> Path:
        return next(folder for folder in found.path.parents if folder.name == called)

    def _ask(self, lying: list[ListedFile], part: Subset | None) -> None:
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
        for name in sorted(name for name in counted if self.vocabulary.meaning(name) == "masks?"):
            folder = self._folder_of(next(f for f in lying if self._called(f) == name), name)
            raise InputError(
                f"{folder}: does it hold {counted[name]} masks, or images of a kind? Say it: "
                f"dataset.layout.masks=['{name}'] or dataset.layout.anomalous=['{name}']"
            )
        unknown = sorted(name for name in counted if self.vocabulary.meaning(name) == "unknown")
        if part in ("train", "validation") and unknown == sorted(counted) != []:
            raise InputError(
                f"{self.base}: {part} holds {_listed(unknown)}, and none is a name of normal images; if all of them "
                f"are normal, say it: dataset.layout.normal=[{_quoted(unknown)}]"
            )

    def _ask_for_normal(self, lying: list[ListedFile], named: set[str]) -> None:
        """Raise a question when no folder has a normal name; what is anomalous by name is not asked about."""
        unknown = sorted(name for name in named if self.vocabulary.meaning(name) != "anomalous")
        counted = Counter(self._called(found) for found in lying)
        if not unknown:
            raise InputError(
                f"{self.base}: holds anomalous images alone ({_listed(sorted(named))}), and there are no normal images "
                "to train on; put them in good, beside them"
            )
        said = ", ".join(f"{name} ({counted[name]} images)" for name in sorted(named)[:8])
        doubtful = [name for name in unknown if self.vocabulary.meaning(name) == "doubtful"]
        advice = f"dataset.layout.normal=[{_quoted(doubtful) or 'NAME, ...'}]"
        if not doubtful and not any(map(sounds_anomalous, named)):
            advice += f", or, if all are, dataset.layout.normal=[{_quoted(unknown)}]"
        raise InputError(
            f"{self.base}: which of its folders hold normal images: {said}? None has a name of normal images (good, "
            f"normal, ok, pass, negative); name those that do: {advice}"
        )


def _listed(names: list[str]) -> str:
    return "the folder " + names[0] if len(names) == 1 else "the folders " + ", ".join(names[:8])


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
