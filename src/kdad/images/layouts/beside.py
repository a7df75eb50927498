"""Sets whose masks lie beside their images, as Kolektor's: ``Part0.jpg`` and ``Part0_label.bmp``."""

from pathlib import Path

from kdad.errors import InputError
from kdad.images.files.mask_files import marks_anything
from kdad.images.layouts.files import FoundFiles, Unused
from kdad.images.layouts.layout import ImageFile, Layout
from kdad.images.layouts.masks import unmarked
from kdad.images.layouts.names import NORMAL, part_of

_DEFECT = "defect"


def masks_beside(paths: list[Path]) -> dict[Path, list[Path]]:
    """Return the masks that lie beside their image under its name and a marker, by image."""
    by_name: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        by_name.setdefault((path.parent, path.stem.lower()), []).append(path)
    found: dict[Path, list[Path]] = {}
    for path in paths:
        bare = unmarked(path.stem)
        owners = by_name.get((path.parent, bare.lower()), []) if bare else []
        if len(owners) > 1:
            raise InputError(f"{path}: may be the mask of {owners[0].name} or of {owners[1].name}; rename one of them")
        if owners:
            found.setdefault(owners[0], []).append(path)
    return found


def labelled_by_masks(files: FoundFiles, beside: dict[Path, list[Path]]) -> Layout:
    """Read a set in which every image has a mask beside it: those with an empty mask are normal.

    Where there are parts, anomalous images of the training part are not used; otherwise they are tested.
    """
    images: list[ImageFile] = []
    unused: list[Unused] = []
    for path, masks in sorted(beside.items()):
        part = next((part for part in map(part_of, files.inside(path)) if part), None)
        if not any(marks_anything(mask) for mask in masks):
            images.append(ImageFile(path, NORMAL, part or "train", "an empty mask"))
        elif part in (None, "test"):
            images.append(ImageFile(path, _DEFECT, "test", "a mask that is not empty", tuple(masks)))
        else:
            unused.append(Unused(path, f"an anomalous image of the part {part}, where only normal ones are used"))
    return Layout("masks beside images, which say what is normal (as Kolektor)", images, unused=unused)
