"""Which mask, and which annotation, is of which image; a question where that is not certain."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import yaml

from kdad.errors import InputError, first_line
from kdad.images.files.annotation_files import Annotated, Shape, parse
from kdad.images.files.mask_files import marks_anything
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import (
    IGNORED,
    NORMAL,
    WRAPPERS,
    FoundFiles,
    ImageFile,
    Layout,
    Unused,
    Vocabulary,
    composed,
    part_of,
    plain,
    words_of,
)

_MARKER = re.compile(r"[_-](?:mask|masks|gt|label|labels|seg|ground_?truth)$", re.IGNORECASE)
_NUMBER = re.compile(r"[_-]\d+$")

Folders = tuple[str, ...]


@dataclass(frozen=True)
class PlacedMask:
    """A file with the names of the folders that tell its kind, lower case."""

    path: Path
    folders: Folders


#: Whether a mask's folders are its image's: all of them, those that it begins or ends with (``NG/colour`` and
#: ``mask/colour``), or none.
_FOLDERS: tuple[Callable[[Folders, Folders], bool], ...] = (
    lambda mask, image: mask == image,
    lambda mask, image: bool(mask) and mask in (image[: len(mask)], image[-len(mask) :]),
    lambda mask, image: not mask,
)


def unmarked(stem: str) -> str | None:
    """Return a mask's stem without ``_mask``, ``_gt``, ``_label`` or the like; None where it has no such ending."""
    bare = _MARKER.sub("", stem)
    return bare if bare != stem else None


def _named(stem: str) -> str:
    return composed(stem).lower()


def pair_masks(layout: Layout, places: Sequence[PlacedMask], masks: Sequence[PlacedMask]) -> list[Path]:
    """Give each image of a layout its masks, and return those of no image; `places` are the images', in their order.

    A mask lies in folders of the same names as its image, of some of them, or of none. Its name is its image's (ending
    and all, or the stem), with a marker like ``_mask``, and perhaps a number; or its folder is named after the image
    (MVTec LOCO). The first of these rules that any image meets decides; several images meeting it are a problem.
    """
    owned: dict[int, list[Path]] = {}
    ownerless, by_ending = [], []
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(places):
        rows.setdefault(_named(place.path.stem), []).append(row)
    for mask in masks:
        owners = _owners(mask, layout.images, places, rows)
        if not owners:
            ownerless.append(mask.path)
        elif all(layout.images[row].is_normal for row in owners):
            tested = [row for row in owners if layout.images[row].subset == "test"]
            layout.masks_of_normal += [(layout.images[row].path, mask.path) for row in tested or owners]
        elif len(owners) > 1:
            names = " or of ".join(str(places[row].path) for row in owners[:2])
            layout.problems.append(f"{mask.path}: may be the mask of {names}; name it like its image, ending and all")
        else:
            owned.setdefault(owners[0], []).append(mask.path)
            owner = places[owners[0]].path
            if sum(places[row].path.parent == owner.parent for row in rows[_named(owner.stem)]) > 1:
                by_ending.append(mask.path)
    for row, paths in owned.items():
        layout.images[row] = replace(layout.images[row], masks=tuple(paths))
    if by_ending:
        layout.notes.append(
            f"masks whose name is that of several images, such as {by_ending[0].name}, are taken for those of the "
            f"image with their ending ({len(by_ending)})"
        )
    return ownerless


def _owners(
    mask: PlacedMask, images: Sequence[ImageFile], places: Sequence[PlacedMask], rows: dict[str, list[int]]
) -> list[int]:
    stem, numberless = mask.path.stem, _NUMBER.sub("", mask.path.stem)
    bare = unmarked(stem)
    # The surest name first.
    stems = dict.fromkeys((stem, bare, _NUMBER.sub("", bare or stem), unmarked(numberless) or numberless))
    namings = [(each, mask.folders, _FOLDERS) for each in stems if each is not None]
    if mask.folders:
        namings.insert(0, (mask.folders[-1], mask.folders[:-1], _FOLDERS[:1]))
    for name, folders, rules in namings:
        for fits in rules:
            near = [row for row in rows.get(_named(name), []) if fits(folders, places[row].folders)]
            # A mask whose ending is its image's is of that one, where a photograph of another format has its name too.
            exact = [row for row in near if places[row].path.suffix.lower() == mask.path.suffix.lower()]
            if near:
                return [row for row in exact or near if not images[row].is_normal] or exact or near
    return []


def pair_ignored(layout: Layout, masks: Sequence[Path], inside: Callable[[Path], Folders]) -> None:
    """Give each image of a layout its mask of pixels that are ignored; what is of none, or of several, is a problem.

    It has its image's name; the folders around it are the last of its image's, or none. `inside` returns a file's.
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(layout.images):
        rows.setdefault(_named(image.path.stem), []).append(row)
    for path in masks:
        folders = [plain(name) for name in inside(path) if plain(name) != IGNORED]
        near = rows.get(_named(path.stem), rows.get(_named(unmarked(path.stem) or path.stem), []))
        owners = [
            row
            for row in near
            if [*map(plain, inside(layout.images[row].path))][-len(folders) :] == folders or not folders
        ]
        if len(owners) == 1 and layout.images[owners[0]].ignored is None:
            layout.images[owners[0]] = replace(layout.images[owners[0]], ignored=path)
            continue
        of = " or of ".join(str(layout.images[row].path) for row in owners[:2]) or "no image that is used"
        layout.problems.append(
            f"{path}: marks pixels to ignore of {of}; lay it as its one image lies, such as "
            f"{IGNORED}/test/good/x.png of test/good/x.png"
        )


def masks_beside(paths: list[Path]) -> dict[Path, list[Path]]:
    """Return the masks that lie beside their image under its name and a marker (Kolektor's), by image."""
    by_name: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        by_name.setdefault((path.parent, _named(path.stem)), []).append(path)
    beside: dict[Path, list[Path]] = {}
    for path in paths:
        bare = unmarked(path.stem)
        owners = by_name.get((path.parent, _named(bare)), []) if bare else []
        if len(owners) > 1:
            raise InputError(f"{path}: may be the mask of {owners[0].name} or of {owners[1].name}; rename one of them")
        if owners:
            beside.setdefault(owners[0], []).append(path)
    return beside


def label_by_marks(
    layout: Layout,
    vocabulary: Vocabulary,
    parts: dict[Path, Subset | None],
    is_normal: Callable[[Path], bool],
) -> None:
    """Call each image of a layout what its masks and its annotation say: without a mark it is normal.

    One without mask and annotation is normal where `is_normal` says so. Where there are parts, anomalous images of the
    training part are not used; otherwise they are tested. Raises `InputError` with a question about images of which
    nothing is known.
    """
    images, layout.images, silent = layout.images, [], []
    for image in images:
        path, part = image.path, parts.get(image.path)
        kind = image.drawn.kind if image.drawn else ""
        if kind or any(marks_anything(mask, vocabulary.marked) for mask in image.masks):
            called = f"objects '{kind}'" if kind else "a mask that is not empty"
            if part in (None, "test"):
                layout.images.append(replace(image, kind=kind or "defect", subset="test", called=called))
            else:
                reason = f"an anomalous image of the part {part}, where only normal ones are used"
                layout.unused.append(Unused(path, reason, True))
        elif image.masks or image.drawn or is_normal(path):
            called = "an empty mask" if image.masks else "no object"
            layout.images.append(ImageFile(path, NORMAL, part or "train", called))
        else:
            silent.append(path)
    if silent:
        raise InputError(
            f"{silent[0]}: has no mask or annotation, as {len(silent) - 1} more of {len(images)} images, and lies "
            "in no folder that says what it is; is it normal? Add an empty one to each normal image or, if all that "
            f"are not marked are normal, say it: dataset.layout.normal=['{silent[0].parent.name}']"
        )


_ENDINGS = (".json", ".xml", ".txt")
_CLASSES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt")
#: Folders that hold annotations beside the images' own.
_SILENT = {*WRAPPERS, "annotation", "annotations", "label", "labels", "json", "jsons", "xml", "xmls", "labelme"}
#: What the names of annotations, or of their folders, have in them; another file that cannot be read is not used.
_SPEAKING = {"annotation", "annotations", "labels", "instances", "coco", "labelme"}


@dataclass
class Annotations:
    """What annotations say of images: objects, and the part where a file's name or list says it.

    `unmarked_is_normal` where a format (YOLO) leaves out images without objects.
    """

    drawn: dict[Path, Annotated] = field(default_factory=dict)
    parts: dict[Path, Subset] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    unmarked_is_normal: bool = False

    @property
    def notes(self) -> list[str]:
        """Say how many annotations of which format were read."""
        said = [f"{count} {name}" for name, count in self.formats.most_common()]
        return [f"annotations that were read: {', '.join(said)}"] if said else []


def read_annotations(files: FoundFiles, images: list[Path], vocabulary: Vocabulary) -> Annotations:
    """Read the annotations among the files that are no images, and find the image of each.

    An image has the name of its annotation, or the one that this says, in the same folder or one beside it (``labels``
    for ``images``). Objects of a normal name mark nothing. Raises `InputError` with a question when the name of an
    object could be that of a normal one.
    """
    found = Annotations()
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(_named(path.stem), []).append(path)
    others = [unused.path for unused in files.unused if unused.reason.startswith("no image")]
    named = [path for path in others if path.name.lower() in _CLASSES]
    taken = set(named)
    classes = _read_classes(named, found.problems)
    for path in sorted(others):
        inside = [plain(name) for name in files.inside(path)]
        if path in taken or path.suffix.lower() not in _ENDINGS:
            continue
        if "imagesets" in inside:
            taken.add(path)
            _read_parts(path, by_stem, found)
            continue
        if path.suffix.lower() == ".txt" and "labels" not in inside and not (named and _named(path.stem) in by_stem):
            continue
        try:
            parsed = parse(path, classes)
        except InputError as error:
            if _named(path.stem) in by_stem or words_of(" ".join([*inside, path.stem])) & _SPEAKING:
                found.problems.append(str(error))
                taken.add(path)
            continue
        if parsed is None:
            continue
        taken.add(path)
        name, (annotated, problems) = parsed
        found.problems += problems
        found.formats[name] += 1
        found.unmarked_is_normal |= name == "YOLO"
        for one in annotated:
            _add(one, name == "COCO", files, by_stem, vocabulary, found)
    for unused in files.unused:
        beside = unused.path.suffix.lower() in _ENDINGS and _named(unused.path.stem) in by_stem
        reason = f"not understood as an annotation ({unused.path.suffix.lower()})"
        if unused.path not in taken:
            found.unused.append(Unused(unused.path, reason, True) if beside else unused)
    return found


def _read_classes(named: list[Path], problems: list[str]) -> list[str]:
    """Return the names of YOLO's classes: of a list in YAML, or a line each."""
    for path in named:
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = text.split("\n") if path.suffix == ".txt" else yaml.safe_load(text)["names"]
            listed = names if isinstance(names, list) else [names[number] for number in range(len(names))]
            return [str(name).strip() for name in listed if str(name).strip()]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            problems.append(f"{path}: its names of classes cannot be read ({first_line(error)}); write them anew")
    return []


def _read_parts(path: Path, by_stem: dict[str, list[Path]], found: Annotations) -> None:
    """Read a list of Pascal VOC (``ImageSets/Main/test.txt``): an image's name without ending a line."""
    part = part_of(path.stem)
    if part is None:  # trainval, or of one class
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        name = (line.split() or [""])[0]
        listed = by_stem.get(composed(name).lower(), [])
        if name and not listed:
            found.problems.append(f"{path}, line {number}: there is no image '{name}'; correct or remove it")
        found.parts |= dict.fromkeys(listed, part)


def _add(
    one: Annotated,
    by_path: bool,
    files: FoundFiles,
    by_stem: dict[str, list[Path]],
    vocabulary: Vocabulary,
    found: Annotations,
) -> None:
    owners = _annotated_images(one, by_path, files, by_stem)
    if len(owners) > 1:
        names = " or of ".join(str(path) for path in owners[:2])
        found.problems.append(f"{one.file}: may be of {names}; name the image's folder in it, or lay it beside it")
    elif not owners and vocabulary.ignore:
        found.unused.append(Unused(one.file, "annotates no image that is used", True))
    elif not owners:
        found.problems.append(f"{one.file}: annotates '{one.image or one.file.stem}', which is not there; remove it")
    else:
        (path,) = owners
        shapes = tuple(shape for shape in one.shapes if not _is_normal(shape, vocabulary))
        before = found.drawn.get(path)
        found.drawn[path] = replace(one, shapes=shapes + (before.shapes if before else ()))
        part = next(filter(None, map(part_of, sorted(words_of(one.file.stem)))), None) if by_path else None
        if part is not None:
            found.parts[path] = part


def _annotated_images(one: Annotated, by_path: bool, files: FoundFiles, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Return the images that an annotation may be of; each sign that any of them has decides."""
    said = PurePosixPath(composed(one.image))
    stem = said.stem.lower() if by_path else _named(one.file.stem)
    wanted = _folders(files.inside(one.file))
    parts = {part_of(word) for word in words_of(one.file.stem)} - {None}
    near = by_stem.get(stem, [])
    if by_path:
        near = [path for path in near if composed(path.name).lower() == said.name.lower()]
    for fits in (
        lambda path: by_path and composed(path.as_posix()).endswith(f"/{said.as_posix()}"),
        lambda path: _folders(files.inside(path)) == wanted,
        lambda path: bool(parts & set(map(part_of, files.inside(path)))),
        lambda path: composed(path.name) == said.name,
    ):
        near = list(filter(fits, near)) or near
    return near


def _folders(inside: tuple[str, ...]) -> list[str]:
    return [plain(name) for name in inside if plain(name) not in _SILENT]


def _is_normal(shape: Shape, vocabulary: Vocabulary) -> bool:
    meaning = vocabulary.meaning(shape.kind)
    if meaning == "doubtful":
        raise InputError(
            f"{shape.where}: is '{shape.kind}' a kind of defect, or of what is normal? Say it: "
            f"dataset.layout.anomalous=['{shape.kind}'] or dataset.layout.normal=['{shape.kind}']"
        )
    return meaning == "normal"
