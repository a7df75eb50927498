"""Small image sets on disk, laid out as people lay them out."""

from pathlib import Path

import numpy as np
from PIL import Image

from kdad.images.folder import FolderSet
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters

SHAPE = (20, 30)


def write(path: Path, value: int = 100, shape: tuple[int, int] = SHAPE) -> Path:
    """Write an image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)
    return path


def write_mask(path: Path, rows: slice = slice(2, 6), value: int = 255, background: int = 0) -> Path:
    """Write a mask that marks 5 columns of `rows`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.full(SHAPE, background, dtype=np.uint8)
    mask[rows, 3:8] = value
    Image.fromarray(mask).save(path)
    return path


def write_all(base: Path, *names: str) -> Path:
    """Write an image at each of these paths below `base`, each of a value of its own."""
    for number, name in enumerate(names):
        write(base / name, number)
    return base


def numbered(folder: str, count: int, ending: str = ".png") -> list[str]:
    """Return the names of `count` images in a folder."""
    return [f"{folder}/{number:03d}{ending}" for number in range(count)]


def open_set(root: Path, category: str | None = None, name: str = "folder", **settings) -> FolderSet:
    """Open the set at `root`, at 16 x 16 pixels."""
    block = {"name": name, "root": str(root), "category": category, "image_size": 16} | settings
    return open_image_set(DatasetParameters(**block))


def counted(images: FolderSet) -> dict[tuple[str, str], int]:
    """Return how many images there are of each part and kind."""
    found: dict[tuple[str, str], int] = {}
    for sample in images.samples:
        key = (sample.subset, sample.kind)
        found[key] = found.get(key, 0) + 1
    return found


def masked(images: FolderSet) -> list[str]:
    """Return the ids of the images with a mask."""
    return [sample.id for sample in images.samples if sample.has_mask]
