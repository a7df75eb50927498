"""Every image, decoded once, and the source's activations of it, computed once; memory-mapped, with a manifest."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdad.content_store import content_key
from kdad.errors import InputError
from kdad.networks.source import CriticalPoint

logger = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
_PIXELS = "images.npy"
_ROWS = "rows.npy"


@dataclass(frozen=True)
class ActivationCache:
    """Opened arrays, one a critical point, a row an image; stored channels-last `(N, H, W, C)`.

    A selection from another cache has its `rows` there, and no arrays of its own.
    """

    folder: Path
    manifest: dict
    pixels: np.ndarray
    arrays: tuple[np.ndarray, ...]
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    @property
    def critical_points(self) -> list[CriticalPoint]:
        """The critical points, in the network's order."""
        return [CriticalPoint(**point) for point in self.manifest["points"]]

    @property
    def names(self) -> tuple[str, ...]:
        """The critical points' names, in the network's order."""
        return tuple(point["name"] for point in self.manifest["points"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.manifest["image_size"]
        return height, width

    @property
    def scales(self) -> list[float]:
        """What each point's activations are divided by; their standard deviation over training images, or 1."""
        return self.manifest["scales"]

    def images(self, rows: np.ndarray) -> Tensor:
        """Return the images `(B, 3, H, W)` of these rows, float32 in [0, 1]."""
        return torch.from_numpy(np.ascontiguousarray(self.pixels[self._stored(rows)]))

    def activations(self, rows: np.ndarray) -> list[Tensor]:
        """Return the scaled activations `(B, C_i, H_i, W_i)` of these rows, float32, channels-last in memory."""
        found = []
        for array, scale in zip(self.arrays, self.scales, strict=True):
            stored = torch.from_numpy(np.ascontiguousarray(array[self._stored(rows)]))
            if self.manifest["dtype"] == "bfloat16":
                stored = stored.view(torch.bfloat16)
            found.append((stored.float() / scale).permute(0, 3, 1, 2))
        return found

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.rows is None else self.rows[rows]


def open_cache(folder: Path) -> ActivationCache:
    """Open a complete cache.

    Raises `InputError` when it is missing or damaged.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if "selected_from" in manifest:
            return _open_selection(folder, manifest)
        pixels = np.load(folder / _PIXELS, mmap_mode="r")
        arrays = tuple(np.load(folder / f"{point['name']}.npy", mmap_mode="r") for point in manifest["points"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the activation cache '{folder}' is missing or damaged; delete it and run 'features' again"
        ) from error
    return ActivationCache(folder, manifest, pixels, arrays)


def _open_selection(folder: Path, manifest: dict) -> ActivationCache:
    whole = open_cache(folder / manifest["selected_from"])
    if manifest["whole"] != content_key(manifest=whole.manifest):
        raise ValueError("the cache that was selected from has been computed anew")
    rows = np.load(folder / _ROWS)
    return ActivationCache(folder, manifest, whole.pixels, whole.arrays, rows)


def write_selection(folder: Path, whole: ActivationCache, rows: np.ndarray, manifest: dict) -> ActivationCache:
    """Write a cache that is these `rows` of another, without copying them; `manifest` says what it is of."""
    complete = {
        **manifest,
        **{key: whole.manifest[key] for key in ("dtype", "points")},
        "whole": content_key(manifest=whole.manifest),
        "selected_from": os.path.relpath(whole.folder, folder),
    }
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    np.save(temporary / _ROWS, rows)
    (temporary / _MANIFEST).write_text(json.dumps(complete, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    return open_cache(folder)


def find_cache(folder: Path, wanted: dict) -> ActivationCache | None:
    """Return the cache when its manifest says what is wanted; else say in the log what differs, and return None."""
    if not (folder / _MANIFEST).exists():
        return None
    try:
        cache = open_cache(folder)
    except InputError as error:
        logger.warning("%s; computing it anew", error)
        return None
    differing = [key for key, value in wanted.items() if cache.manifest.get(key) != value]
    if differing:
        logger.info("Activation cache is of another %s: computing it anew", ", ".join(differing))
        return None
    logger.info("Activation cache matches: reusing %d images", len(cache))
    return cache


def write_cache(
    folder: Path,
    manifest: dict,
    points: Sequence[CriticalPoint],
    rows: int,
    batches: Iterator[tuple[np.ndarray, Sequence[Tensor]]],
    finish: dict,
) -> ActivationCache:
    """Write images `(B, 3, H, W)` with activations `(B, C, H, W)` and a manifest under a temporary name; then rename.

    `finish` is merged into the manifest after the last batch, so the batches' producer may fill it as it goes.
    Raises `InputError` before the first batch when the disk is too small.
    """
    half = manifest["dtype"] == "bfloat16"
    height, width = manifest["image_size"]
    per_image = sum(point.channels * point.height * point.width for point in points) * (2 if half else 4)
    needed = rows * (per_image + 3 * height * width * 4)
    free = free_space(folder)
    if needed > free:
        raise InputError(
            f"the activation cache needs {needed / 1e9:.1f} GB in '{folder.parent}', but {free / 1e9:.1f} GB are left; "
            "free some space, or use fewer critical points, smaller images or compute.precision=bfloat16"
        )
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write_arrays(temporary, points, (rows, 3, height, width), batches, half)
        complete = {**manifest, "points": [asdict(point) for point in points], **finish}
        (temporary / _MANIFEST).write_text(json.dumps(complete, indent=1))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    return open_cache(folder)


def free_space(folder: Path) -> int:
    """Return the bytes that a cache at `folder` may take: nearly all that its disk has left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return int(shutil.disk_usage(folder.parent).free * 0.95)


def _write_arrays(
    folder: Path,
    points: Sequence[CriticalPoint],
    image_shape: tuple[int, int, int, int],
    batches: Iterator[tuple[np.ndarray, Sequence[Tensor]]],
    half: bool,
) -> None:
    create = np.lib.format.open_memmap
    pixels = create(folder / _PIXELS, mode="w+", dtype=np.float32, shape=image_shape)
    arrays = [
        create(
            folder / f"{point.name}.npy",
            mode="w+",
            dtype=np.uint16 if half else np.float32,
            shape=(image_shape[0], point.height, point.width, point.channels),
        )
        for point in points
    ]
    start = 0
    for images, activations in batches:
        rows = slice(start, start + len(images))
        pixels[rows] = images
        for array, activation in zip(arrays, activations, strict=True):
            stored = activation.permute(0, 2, 3, 1).contiguous().cpu()  # (B, H, W, C)
            array[rows] = (stored.to(torch.bfloat16).view(torch.uint16) if half else stored.float()).numpy()
        start += len(images)
    for array in (pixels, *arrays):
        array.flush()
