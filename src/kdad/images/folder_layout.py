"""Which files of a folder are images, of which kind and part, and which are their masks."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdad.errors import InputError
from kdad.images.image_set import Subset
from kdad.parameters.strict import nearest_name

EXTENSIONS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
        *(".jp2", ".j2k", ".jpx", ".avif"),
    )
)
_MASKS = "ground_truth"
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class ImageFile:
    """An image of a kind ("good" is normal) and part, with its mask where there is one."""

    path: Path
    kind: str
    subset: Subset
    mask: Path | None = None


@dataclass
class FolderLayout:
    """The images of a folder in order, and what is wrong with how files lie in it."""

    images: list[ImageFile]
    problems: list[str] = field(default_factory=list)


def find_category(root: Path, category: str | None) -> Path:
    """Return the folder of `category` in `root`, or `root` without one; raises `InputError` when there is none."""
    if not root.is_dir():
        raise InputError(f"dataset.root: there is no folder {root}; give the folder that holds the images")
    if category is None:
        return root
    if not (root / category).is_dir():
        known = _subfolders(root)
        hint = nearest_name(category, known) if known else ""
        raise InputError(f"dataset.category: there is no folder '{category}' in {root}{hint}")
    return root / category


def read_layout(base: Path) -> FolderLayout:
    """Find the images below `base`, in one of three layouts.

    MVTec AD: ``train/good``, ``test/<kind>``, perhaps ``validation/good``. Labelled: ``good`` and ``<kind>``. Flat:
    images of good parts alone. Masks, if any, are ``ground_truth/<kind>/<image>_mask.png`` (or without ``_mask``).
    Where no normal image is marked for the test, a fifth of the good ones, chosen by their ids, is kept for it, so
    that there are normal scores. Raises `InputError` when there is no image at all.
    """
    if (base / "train").is_dir():
        images, problems = _read_marked(base)
    elif (base / "good").is_dir():
        kinds = [kind for kind in _subfolders(base) if kind != _MASKS]
        images, problems = [file for kind in kinds for file in _files_of(base / kind, kind)], []
    else:
        images, problems = [ImageFile(path, "good", "train") for path in _image_files(base)], []
    if not images:
        raise InputError(_nothing_found(base))
    images = _keep_normal_for_test(images, base)
    masks = _find_masks(base)
    images = [replace(file, mask=masks.pop((file.kind, file.path.stem), None)) for file in images]
    problems += [f"{path}: is a mask without an image; remove it, or add the image" for path in masks.values()]
    subsets = {file.subset for file in images}
    if "train" not in subsets:
        problems.append(f"{base}: there are no normal images to train on; put them in train/good (or good)")
    elif "test" not in subsets:
        problems.append(f"{base}: has too few images to keep one for the test; at least 3 normal ones are needed")
    return FolderLayout(images, problems)


def _read_marked(base: Path) -> tuple[list[ImageFile], list[str]]:
    """Read the layout of MVTec AD."""
    images: list[ImageFile] = []
    problems: list[str] = []
    for subset in ("train", "validation"):
        images += [ImageFile(path, "good", subset) for path in _image_files(base / subset / "good")]
        for kind in _subfolders(base / subset):
            if kind != "good":
                problems.append(f"{base / subset / kind}: only normal images train; move it to test/{kind}")
    for kind in _subfolders(base / "test"):
        images += [ImageFile(path, kind, "test") for path in _image_files(base / "test" / kind)]
    for subset in ("train", "validation", "test"):
        place = "test/good or test/<kind of defect>" if subset == "test" else f"{subset}/good"
        problems += [
            f"{path}: lies outside a kind's folder; move it to {place}" for path in _image_files(base / subset)
        ]
    for kind in _subfolders(base / "test"):
        if not _image_files(base / "test" / kind):
            problems.append(f"{base / 'test' / kind}: holds no images; add some, or remove the folder")
    return images, problems


def _files_of(folder: Path, kind: str) -> list[ImageFile]:
    return [ImageFile(path, kind, "train" if kind == "good" else "test") for path in _image_files(folder)]


def _keep_normal_for_test(images: list[ImageFile], base: Path) -> list[ImageFile]:
    """Move a fifth of the training images to the test when it has no normal one; the rest must be 2 at least."""
    if any(file.subset == "test" and file.kind == "good" for file in images):
        return images
    training = [file for file in images if file.subset == "train"]
    count = min(max(round(_TEST_SHARE * len(training)), 1), len(training) - 2)
    ranked = sorted(training, key=lambda file: hashlib.sha256(file.path.relative_to(base).as_posix().encode()).digest())
    kept = set(ranked[: max(count, 0)])
    return [replace(file, subset="test") if file in kept else file for file in images]


def _find_masks(base: Path) -> dict[tuple[str, str], Path]:
    """Return the masks of anomalous images by kind and their image's stem; normal images need none."""
    return {
        (kind, path.stem.removesuffix("_mask")): path
        for kind in _subfolders(base / _MASKS)
        if kind != "good"
        for path in _image_files(base / _MASKS / kind)
    }


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and _is_image(path))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _nothing_found(base: Path) -> str:
    """Say where images were looked for, and that a category is missing when it looks like that."""
    categories = [
        name for name in _subfolders(base) if (base / name / "train").is_dir() or (base / name / "good").is_dir()
    ]
    if categories:
        return f"{base}: holds no images itself; set dataset.category to one of its folders: {', '.join(categories)}"
    extensions = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
    return f"{base}: holds no images ({extensions}); expected train/good and test/<kind>, or good images alone"
