"""MNIST and Fashion-MNIST from their IDX files, one class of them normal."""

from functools import cache, partial
from pathlib import Path

from kdad.errors import InputError
from kdad.images.published.digits import DIGIT_NAMES
from kdad.images.published.idx import read_idx
from kdad.images.published.one_class import LabelledImages, OneClassSet
from kdad.images.published.published_files import find_published
from kdad.parameters.dataset import DatasetParameters

_FASHION_NAMES = (
    "t_shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
)
_CLASS_NAMES = {"mnist": DIGIT_NAMES, "fashion_mnist": _FASHION_NAMES}
_PUBLISHED = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
_PREFIXES = ("train", "t10k")


class IdxSet(OneClassSet):
    """The published training and test parts; `root` or its subfolder MNIST/raw or FashionMNIST/raw holds the files.

    Without `root` they are downloaded once to data/01_raw. Raises `InputError` when files are missing or damaged, or
    there is no internet.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        from torchvision import datasets  # here, since torchvision takes a second

        downloader = getattr(datasets, _PUBLISHED[parameters.name])
        find = partial(_find_folder, subfolder=downloader.__name__)
        absent = f"and its {downloader.__name__}/raw hold no train-images-idx3-ubyte(.gz)"
        folder = find_published(parameters, find, downloader, absent)
        train, test = (_load_part(folder.resolve(), prefix) for prefix in _PREFIXES)
        super().__init__(parameters, train, test, _CLASS_NAMES[parameters.name])


def _find_folder(root: Path, subfolder: str) -> Path | None:
    """Return the folder with the training images.

    Both sets use the same file names, so a shared root is searched by the set's own subfolder first.
    """
    folders = (root / subfolder / "raw", root)
    return next((folder for folder in folders if _find_file(folder, "train-images-idx3-ubyte") is not None), None)


def _find_file(folder: Path, name: str) -> Path | None:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    return found[0] if found else None


@cache
def _load_part(folder: Path, prefix: str) -> LabelledImages:
    """Read images and labels of one part, once a process."""
    paths = []
    for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
        path = _find_file(folder, name)
        if path is None:
            raise InputError(f"{folder}: has no {name}(.gz); all four IDX files are needed")
        paths.append(path)
    pixels, classes = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(pixels) != len(classes):
        raise InputError(f"{paths[1]}: has {len(classes)} labels for {len(pixels)} images in {paths[0].name}")
    if len(classes) == 0 or 0 in pixels.shape:
        raise InputError(f"{paths[0]}: holds no images; fetch it again")
    if classes.max() > 9:
        raise InputError(f"{paths[1]}: has the class {classes.max()}; the classes are 0..9")
    return LabelledImages(pixels, classes)
