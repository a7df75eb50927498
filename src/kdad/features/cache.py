"""Every image, decoded once, and a frozen network's outputs of it, computed once; memory-mapped, with a manifest."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdad.errors import InputError
from kdad.networks.source import CriticalPoint
from kdad.storage.content_store import CHECKSUMS, content_key, find_damage
from kdad.storage.disk_space import create_map
from kdad.storage.replacing import link_or_copy

#: NumPy's type of the file; it knows no bfloat16, whose bits are kept.
_OUTPUTS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
_IMAGES = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_AS_COMPUTED = "auto"
_STEPS = 255


@dataclass(frozen=True)
class Storage:
    """Formats on disk: outputs float32, float16, bfloat16 or ``auto``, as computed; images float32, float16 or uint8.

    What is read is float32 again. float16 has 11 significant bits and ends at 65,504, bfloat16 8 bits and no such end.
    """

    outputs: str = _AS_COMPUTED
    images: str = "float32"

    def named(self) -> dict[str, Any]:
        """Return what a manifest says of it, nothing where it is as computed."""
        return {"storage": asdict(self)} if self != Storage() else {}

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> "Storage":
        """Return that of a cache, `auto` resolved."""
        storage = cls(**manifest.get("storage", {}))
        computed = "bfloat16" if manifest["dtype"] == "bfloat16" else "float32"
        return replace(storage, outputs=computed) if storage.outputs == _AS_COMPUTED else storage

    @property
    def types(self) -> tuple[np.dtype, np.dtype]:
        """NumPy's types of the files of outputs and of images."""
        return np.dtype(_OUTPUTS[self.outputs]), np.dtype(_IMAGES[self.images])

    def write_outputs(self, outputs: Tensor, name: str) -> np.ndarray:
        """Return an output as it is kept; raises `InputError` where float16 cannot hold it."""
        if self.outputs == "bfloat16":
            return outputs.to(torch.bfloat16).view(torch.uint16).numpy()
        kept = outputs.to(getattr(torch, self.outputs)).numpy()
        if self.outputs == "float16" and not np.isfinite(kept).all():
            raise InputError(
                f"activations of {name} do not fit float16 (their largest is {float(outputs.abs().max()):.3g}); set "
                "features.outputs_on_disk=bfloat16"
            )
        return kept

    def read_outputs(self, kept: np.ndarray) -> Tensor:
        """Return an output, float32."""
        outputs = torch.from_numpy(kept)
        return (outputs.view(torch.bfloat16) if self.outputs == "bfloat16" else outputs).float()

    def write_images(self, images: np.ndarray) -> np.ndarray:
        """Return images in [0, 1] as they are kept."""
        scaled = np.round(images * _STEPS) if self.images == "uint8" else images
        return scaled.astype(_IMAGES[self.images])

    def read_images(self, kept: np.ndarray) -> Tensor:
        """Return images in [0, 1], float32."""
        images = torch.from_numpy(kept).float()
        return images / _STEPS if self.images == "uint8" else images


_MANIFEST = "manifest.json"
_PIXELS = "images.npy"
_ROWS = "rows.npy"
_MEANS = "means.npy"
#: Keys of a manifest that follow from the others.
_MEASURED = ("points", "statistics", "whole", "selected_from")


@dataclass(frozen=True)
class FeatureCache:
    """Opened arrays, one an output of the network, a row an image; stored channels-last `(N, H, W, C)`.

    A selection from another cache has its `rows` there, and no arrays of its own. Where outputs were too large to keep,
    there are no arrays at all: statistics are known, outputs are computed again.
    """

    folder: Path
    manifest: dict[str, Any]
    pixels: np.ndarray | None
    arrays: tuple[np.ndarray, ...]
    rows: np.ndarray | None = None
    reused: bool = True

    def __len__(self) -> int:
        return self.manifest["count"]

    @property
    def kept(self) -> bool:
        """Whether the outputs are here."""
        return self.pixels is not None

    @property
    def identity(self) -> dict[str, Any]:
        """What the outputs depend on: network, images, machine; without what was measured of them."""
        return {key: value for key, value in self.manifest.items() if key not in _MEASURED}

    @property
    def storage(self) -> Storage:
        """In which formats they are kept."""
        return Storage.of(self.manifest)

    @property
    def points(self) -> list[CriticalPoint]:
        """Name and shape of each output, in the network's order."""
        return [CriticalPoint(**point) for point in self.manifest["points"]]

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs' names, in the network's order."""
        return tuple(point["name"] for point in self.manifest["points"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.manifest["image_size"]
        return height, width

    @property
    def statistics(self) -> list[dict[str, list[float]]]:
        """For each output ``mean`` and ``sd`` of every channel over the training images."""
        return self.manifest["statistics"]

    @property
    def means(self) -> np.ndarray:
        """Of each image the mean of every channel of every output, `(N, C)` float32."""
        whole = self.manifest.get("selected_from", ".")
        means = np.load(self.folder / whole / _MEANS, mmap_mode="r")
        return means if self.rows is None else means[self.rows]

    def images(self, rows: np.ndarray) -> Tensor:
        """Return the images `(B, 3, H, W)` of these rows, float32 in [0, 1]."""
        return self.storage.read_images(np.ascontiguousarray(self.pixels[self._stored(rows)]))

    def outputs(self, rows: np.ndarray) -> list[Tensor]:
        """Return the outputs `(B, C_i, h_i, w_i)` of these rows, float32, channels-last in memory."""
        kept = [np.ascontiguousarray(array[self._stored(rows)]) for array in self.arrays]
        return [self.storage.read_outputs(found).permute(0, 3, 1, 2) for found in kept]

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.rows is None else self.rows[rows]


def overall_sd(statistics: dict[str, list[float]]) -> float:
    """Return the standard deviation over all channels together, or 1 for an output that is constant."""
    variance = np.mean(np.square(statistics["sd"])) + np.var(statistics["mean"])
    return float(np.sqrt(variance)) or 1.0


def open_cache(folder: Path, reused: bool = True) -> FeatureCache:
    """Open a complete cache; raises `InputError` when it is missing or damaged, naming the file where it is known."""
    damage = find_damage(folder) if (folder / CHECKSUMS).exists() else None
    if damage is not None:
        raise InputError(f"the feature cache is damaged: {damage}; run the pipeline again, which makes it anew")
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if "selected_from" in manifest:
            whole = open_cache(folder / manifest["selected_from"])
            if manifest["whole"] != content_key(manifest=whole.manifest):
                raise ValueError("the cache that was selected from has been computed anew")
            return FeatureCache(folder, manifest, whole.pixels, whole.arrays, np.load(folder / _ROWS), reused)
        if {path.name for path in folder.glob("*.npy")} <= {_MEANS}:
            return FeatureCache(folder, manifest, None, (), None, reused)
        names = [point["name"] for point in manifest["points"]]
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("there are no outputs, or an output's name is no name of a file")
        pixels = np.load(folder / _PIXELS, mmap_mode="r")
        arrays = tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the feature cache '{folder}' is missing or damaged; delete it and run the pipeline again"
        ) from error
    return FeatureCache(folder, manifest, pixels, arrays, None, reused)


def write_selection(folder: Path, whole: FeatureCache, rows: np.ndarray, manifest: dict[str, Any]) -> None:
    """Write a cache that is these `rows` of another, without copying them; `manifest` says what it is of."""
    np.save(folder / _ROWS, rows)
    selected = {"whole": content_key(manifest=whole.manifest), "selected_from": os.path.relpath(whole.folder, folder)}
    _write_manifest(folder, {**manifest, "points": whole.manifest["points"], **selected})


def write_statistics(folder: Path, manifest: dict[str, Any], points: Sequence[CriticalPoint]) -> None:
    """Write a cache without outputs: what they are of, their shapes and statistics; ``means`` become a file."""
    described = {**manifest, "points": [asdict(point) for point in points]}
    means = described.pop("means", None)  # of each image, batch by batch: arrays `(B, C)`
    if means is not None:
        np.save(folder / _MEANS, np.concatenate(means))
    _write_manifest(folder, described)


def write_cache(
    folder: Path,
    manifest: dict[str, Any],
    points: Sequence[CriticalPoint],
    batches: Iterator[tuple[np.ndarray, Sequence[Tensor]]],
    measured: dict[str, Any],
    images_file: Path | None = None,
) -> None:
    """Write images `(B, 3, H, W)` with outputs `(B, C, h, w)` batch by batch, then the manifest.

    `measured` is merged into the manifest after the last batch, so the batches' producer may fill it as it goes. An
    `images_file` that holds the images already gets a second name.
    Raises `InputError` before the first batch when the disk is too small.
    """
    needed, free = needed_bytes(points, manifest), free_space(folder)
    if needed > free:
        raise InputError(
            f"the feature cache needs {needed / 1e9:.1f} GB in '{folder.parent}', but {free / 1e9:.1f} GB are left; "
            "free some space, or use fewer source.critical_points, smaller images, features.images_on_disk=uint8 or "
            "features.outputs_on_disk=bfloat16"
        )
    storage, count = Storage.of(manifest), manifest["count"]
    of_output, of_image = storage.types
    pixels = None
    if images_file is not None and of_image == np.float32:
        link_or_copy(images_file, folder / _PIXELS)
    else:
        pixels = create_map(folder / _PIXELS, of_image, (count, 3, *manifest["image_size"]))
    arrays = [
        create_map(folder / f"{point.name}.npy", of_output, (count, point.height, point.width, point.channels))
        for point in points
    ]
    start = 0
    for images, outputs in batches:
        rows = slice(start, start + len(images))
        if pixels is not None:
            pixels[rows] = storage.write_images(images)
        for point, array, output in zip(points, arrays, outputs, strict=True):
            stored = output.permute(0, 2, 3, 1).contiguous().cpu()  # (B, H, W, C)
            array[rows] = storage.write_outputs(stored, point.name)
        start += len(images)
    for array in (pixels, *arrays):
        if array is not None:
            array.flush()
    write_statistics(folder, {**manifest, **measured}, points)


def needed_bytes(points: Sequence[CriticalPoint], manifest: dict[str, Any]) -> int:
    """Return how large the arrays of a cache will be."""
    height, width = manifest["image_size"]
    of_output, of_image = (dtype.itemsize for dtype in Storage.of(manifest).types)
    return manifest["count"] * (sum(point.values for point in points) * of_output + 3 * height * width * of_image)


def free_space(folder: Path) -> int:
    """Return the bytes that a cache at `folder` may take: nearly all that its disk has left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return int(shutil.disk_usage(folder.parent).free * 0.95)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
