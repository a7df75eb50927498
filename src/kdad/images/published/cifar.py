"""CIFAR-10 from torchvision's files, or from folders of classes; one class of it normal."""

import pickle
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kdad.errors import InputError
from kdad.images.files.decoding import decode_image, read_size, resize_image
from kdad.images.files.reading import is_image, read_ahead, reading_threads
from kdad.images.published.one_class import LabelledImages, OneClassSet, find_published
from kdad.parameters.dataset import DatasetParameters

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
    if pixels.dtype != np.uint8 or pixels.shape != (len(classes), _VALUES):
        raise InputError(
            f"{path}: holds {pixels.shape} values and {len(classes)} labels instead of {_VALUES} a label; fetch it "
            "again"
        )
    if len(classes) == 0 or classes.min() < 0 or classes.max() > 9:
        raise InputError(f"{path}: has labels outside 0..9, or none; fetch it again")
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
