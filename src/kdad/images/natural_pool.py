"""The natural images that a teacher learns from, and the patches and triplets that are cut from them."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.errors import InputError
from kdad.images.files.decoding import EXTENSIONS, decode_image, read_size
from kdad.images.image_set import hash_content

if TYPE_CHECKING:
    import pandas as pd

#: Photographs in the wheels of scikit-image and scikit-learn. Its textures are left out: they are test images here.
_SCIKIT_IMAGE = (
    *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "hubble_deep_field.jpg", "ihc.png"),
    *("moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
_SCIKIT_LEARN = ("china.jpg", "flower.jpg")
_HELD = 256  # decoded images kept
#: A patch of p pixels is cut after zooming the image's shorter side to this many times p, as in the published training.
PATCH_ZOOM = (4.0, 16.0)
_GREY_SHARE = 0.1


class NaturalPool:
    """Natural images from a folder (any depth), or the embedded photographs when `root` is None.

    Raises `InputError` for a folder that is missing or holds fewer than two images that are large enough to cut from.
    """

    def __init__(self, root: str | None = None) -> None:
        self.paths = _embedded() if root is None else _found(Path(root).expanduser())
        self._read = lru_cache(_HELD)(decode_image)

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times (embedded: names alone), which names trained teachers."""
        facts = [(path.name, path.stat().st_size) for path in self.paths]
        return hash_content(repr(facts).encode())

    @cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of every image, upright, `(N, 2)`; of files that cannot be read 0."""
        return np.array([read_size(path) for path in self.paths])

    def sample(
        self,
        count: int,
        generator: np.random.Generator,
        zoom: Sequence[float] = PATCH_ZOOM,
        moved_by: float | None = None,
    ) -> "pd.DataFrame":
        """Choose places of `count` patches at random images, places and scales, a tenth of them grey.

        The image's shorter side is zoomed to `zoom` times the patch's, from and to. Columns: image (its row), side,
        top, left (pixels of the image; `side` is zoomed to the patch's size), grey. With `moved_by`, the largest
        distance as a share of the side, also those of the positive (moved_top, moved_left, gain, shift, noise_seed)
        and of the negative (other_image, other_side, other_top, other_left, other_grey).
        """
        table = self._places(generator.integers(len(self.paths), size=count), generator, zoom)
        if moved_by is None:
            return table
        others = (table["image"] + generator.integers(1, len(self.paths), size=count)) % len(self.paths)
        reach = moved_by * table["side"].to_numpy()
        for name, length in zip(("top", "left"), self.sizes[table["image"]].T, strict=True):
            moved = np.rint(table[name] + generator.uniform(-1, 1, count) * reach)
            table[f"moved_{name}"] = np.clip(moved, 0, length - table["side"]).astype(np.int32)
        table["gain"], table["shift"] = generator.uniform(0.8, 1.2, count), generator.uniform(-0.1, 0.1, count)
        table["noise_seed"] = generator.integers(2**31, size=count)
        return table.join(self._places(others.to_numpy(), generator, zoom).add_prefix("other_"))

    def cut(self, places: "pd.DataFrame", patch_size: int) -> Tensor:
        """Cut the patches `(B, 3, p, p)` in [0, 1] that a table of `sample` says."""
        return self._cut(places, ("image", "side", "top", "left", "grey"), patch_size)

    def cut_triplets(self, places: "pd.DataFrame", patch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut anchors, positives and negatives `(B, 3, p, p)` that a table says (Bergmann et al. 2020, section 3.1).

        A positive is its anchor moved a little, with other luminance and Gaussian noise; a negative comes from another
        image.
        """
        moved = self._cut(places, ("image", "side", "moved_top", "moved_left", "grey"), patch_size)
        gain, shift = (torch.tensor(places[name].to_numpy()).view(-1, 1, 1, 1) for name in ("gain", "shift"))
        seeds = places["noise_seed"].astype(np.int64)
        draws = np.stack([np.random.default_rng(seed).normal(0, 0.02, moved.shape[1:]) for seed in seeds])
        positives = (moved * gain + shift + torch.from_numpy(draws)).clamp(0, 1).float()
        other = ("other_image", "other_side", "other_top", "other_left", "other_grey")
        return self.cut(places, patch_size), positives, self._cut(places, other, patch_size)

    def _places(self, rows: np.ndarray, generator: np.random.Generator, zoom: Sequence[float]) -> "pd.DataFrame":
        import pandas as pd  # late: predicting takes none

        height, width = self.sizes[rows].T
        # Zooming the whole image and cutting p pixels is cutting this many pixels and zooming those.
        side = np.maximum(np.rint(np.minimum(height, width) / generator.uniform(*zoom, len(rows))), 4)
        places = {
            name: np.floor(generator.random(len(rows)) * np.maximum(length - side + 1, 1))
            for name, length in (("top", height), ("left", width))
        }
        table = pd.DataFrame({"image": rows, "side": side, **places}).astype(np.int32)
        return table.assign(grey=generator.random(len(rows)) < _GREY_SHARE)

    def _cut(self, places: "pd.DataFrame", columns: Sequence[str], patch_size: int) -> Tensor:
        # Whole numbers are floats in a table where other rows have none.
        rows = places[list(columns)].to_numpy(dtype=np.int64)
        return torch.cat([self._cut_one(*row, patch_size) for row in rows.tolist()])

    def _cut_one(self, row: int, side: int, top: int, left: int, grey: bool, patch_size: int) -> Tensor:
        image = self._read(self.paths[row])
        if grey:
            image = np.broadcast_to(image.mean(axis=0), image.shape)
        part = torch.from_numpy(np.ascontiguousarray(image[:, top : top + side, left : left + side]))[None]
        return interpolate(part, (patch_size, patch_size), mode="bilinear", antialias=True).clamp_(0, 1)


def _embedded() -> list[Path]:
    import skimage.data  # here, since few runs need them and they take a second
    import sklearn.datasets

    photographs = Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images"
    names = _SCIKIT_IMAGE, _SCIKIT_LEARN
    return [folder / name for folder, group in zip(photographs, names, strict=True) for name in group]


def _found(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"teacher.pool '{root}' is no folder; give one with natural images, or null for the embedded")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and not path.is_dir())
    if len(paths) < 2:
        raise InputError(f"teacher.pool '{root}' holds {len(paths)} images; at least 2 natural images are needed")
    return paths
