"""Which annotations there are among the files of a set, and of which image each is."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import yaml

from kdad.errors import InputError, first_line
from kdad.images.files.annotation_files import Annotated, Shape, parse
from kdad.images.image_set import Subset
from kdad.images.layouts.layout import WRAPPERS, FoundFiles, Unused, Vocabulary, composed, part_of, plain, words_of

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
        by_stem.setdefault(_stem(path), []).append(path)
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
        if path.suffix.lower() == ".txt" and "labels" not in inside and not (named and _stem(path) in by_stem):
            continue
        try:
            parsed = parse(path, classes)
        except InputError as error:
            if _stem(path) in by_stem or words_of(" ".join([*inside, path.stem])) & _SPEAKING:
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
        beside = unused.path.suffix.lower() in _ENDINGS and _stem(unused.path) in by_stem
        reason = f"not understood as an annotation ({unused.path.suffix.lower()})"
        if unused.path not in taken:
            found.unused.append(Unused(unused.path, reason, True) if beside else unused)
    return found


def _stem(path: Path) -> str:
    return composed(path.stem).lower()


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
    owners = _owners(one, by_path, files, by_stem)
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


def _owners(one: Annotated, by_path: bool, files: FoundFiles, by_stem: dict[str, list[Path]]) -> list[Path]:
    """Return the images that an annotation may be of; each sign that any of them has decides."""
    said = PurePosixPath(composed(one.image))
    stem = said.stem.lower() if by_path else _stem(one.file)
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
