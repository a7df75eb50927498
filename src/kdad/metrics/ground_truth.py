"""The masks that test images can be measured against, and maps at their resolution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from kdad.images.files.decoding import resize_mask
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.scoring.parameters import MaskResolution
from kdad.scoring.smoothing import upsample
from kdad.storage.disk_space import zeros

#: Pixels of all measured images together that maps are enlarged to; more would take gigabytes.
MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class GroundTruth:
    """Masks `(N, H, W)` of the test images at `positions` (among test images), or the `reason` why there are none.

    Normal images have an empty mask. Anomalous images without one (`unmasked`), or with one that marks nothing in its
    file (`empty`), are not among them. `own_masks` are the same masks at their files' size, None where that is the
    model's or is not measured at. Where a `region` `(H, W)` counts alone, pixels outside are not measured; `own_region`
    is the same at the size of `own_masks`, which then have one.
    """

    positions: np.ndarray
    masks: np.ndarray
    reason: str | None
    unmasked: int = 0
    empty: int = 0
    own_masks: list[np.ndarray] | None = None
    region: np.ndarray | None = None
    own_region: np.ndarray | None = None

    def shown(self, position: int) -> np.ndarray | None:
        """Return the mask of the test image at `position`, or None where it is not known."""
        if self.reason is not None:
            return None
        found = np.flatnonzero(self.positions == position)
        return self.masks[found[0]] if found.size else None

    def of(self, positions: np.ndarray) -> "GroundTruth":
        """Return the masks of the test images at these positions, which count from 0 there."""
        if self.reason is not None:
            return self
        chosen = np.flatnonzero(np.isin(self.positions, positions))
        masks = self.masks[chosen]
        reason = None if masks.any() else "the test images of this category have no masks"
        own = None if self.own_masks is None else [self.own_masks[row] for row in chosen]
        return replace(
            self,
            positions=np.searchsorted(positions, self.positions[chosen]),
            masks=masks,
            reason=reason,
            unmasked=0,
            empty=0,
            own_masks=own,
        )

    @property
    def resolution(self) -> str:
        """What pixels are measured at, in words."""
        return "the model's size" if self.own_masks is None else "the masks' own resolution"


def read_ground_truth(split: Split, images: ImageSet, resolution: MaskResolution = "model") -> GroundTruth:
    """Read the masks of the test images, at the model's size, and at their own where that is the `resolution`.

    An image that is smaller than the model's size is measured at that, and so are all when they have more than
    `MOST_PIXELS` together.
    """
    rows, test = split.rows("test"), split.test_table
    anomalous, masked = (test["label"] == 1).to_numpy(), test["has_mask"].to_numpy(dtype=bool)
    found = {position: images.own_mask(rows[position]) for position in np.flatnonzero(anomalous & masked)}
    empty = [position for position, mask in found.items() if mask is None or not mask.any()]
    measured = ~anomalous | masked
    measured[empty] = False
    positions = np.flatnonzero(measured)
    reasons = {
        "the test images are all normal": not anomalous.any(),
        "this image set has no masks": not masked[anomalous].any(),
        f"all {len(empty)} masks are empty in their files": len(empty) == len(found),
    }
    for reason, holds in reasons.items():
        if holds:
            return GroundTruth(positions, np.zeros((0, *images.size), dtype=bool), reason)
    reason = None
    masks = zeros((len(positions), *images.size), bool)
    for mask, position in zip(masks, positions, strict=True):
        if position in found:
            mask[:] = images.mask(rows[position])
    own, own_region, region = None, None, images.preparation.region_at(images.size)
    if resolution == "masks":
        sizes = [_size_to_measure(images, rows[position], found.get(position)) for position in positions]
        if any(size != images.size for size in sizes) and sum(h * w for h, w in sizes) <= MOST_PIXELS:
            own = [
                resize_mask(found[position], size) if position in found else np.zeros(size, dtype=bool)
                for position, size in zip(positions, sizes, strict=True)
            ]
            own_region = images.preparation.region_at(sizes[0])
    if own is None and not masks.any():
        height, width = images.size
        reason = (
            f"the masks vanish at {height} x {width} pixels, as what they mark is smaller than a pixel there; raise "
            "dataset.image_size, or set measuring.resolution to masks"
        )
    elif all(_is_full(mask, region if own is None else own_region) for mask in (masks if own is None else own)):
        reason = "the masks leave no normal pixel"
    unmasked = int((anomalous & ~masked).sum())
    if reason:
        return GroundTruth(positions, masks, reason)
    return GroundTruth(positions, masks, None, unmasked, len(empty), own, region, own_region)


def _is_full(mask: np.ndarray, region: np.ndarray | None) -> bool:
    return bool((mask if region is None else mask[region]).all())


def _size_to_measure(images: ImageSet, row: int, mask: np.ndarray | None) -> tuple[int, int]:
    height, width = mask.shape if mask is not None else images.own_size(row)
    return (height, width) if height >= images.size[0] and width >= images.size[1] else images.size


class UpsampledMaps(Sequence[np.ndarray]):
    """Maps `(N, H, W)`, each enlarged to a shape (height, width) of its own when it is asked for, bilinearly."""

    def __init__(self, maps: np.ndarray, shapes: list[tuple[int, int]]) -> None:
        self._maps, self._shapes = maps, shapes

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        found, shape = np.asarray(self._maps[index], dtype=np.float32), self._shapes[index]
        if found.shape == shape:
            return found
        return upsample(torch.from_numpy(found)[None], shape)[0].numpy()


def measured_pair(
    truth: GroundTruth, maps: np.ndarray
) -> tuple[np.ndarray | list[np.ndarray], Sequence[np.ndarray], np.ndarray | None]:
    """Return masks that pixels are measured against, the maps of their images at their size, and the region.

    The region says which pixels are measured, bool `(H, W)`; None for all.
    """
    if truth.own_masks is None:
        return truth.masks, maps, truth.region
    return truth.own_masks, UpsampledMaps(maps, [mask.shape for mask in truth.own_masks]), truth.own_region
