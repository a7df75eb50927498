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
    model's or is not measured at. Where `regions` of them count alone, `(H, W)` each, pixels outside are not measured;
    `own_regions` are the same at the size of `own_masks`.
    """

    positions: np.ndarray
    masks: np.ndarray
    reason: str | None
    unmasked: int = 0
    empty: int = 0
    own_masks: list[np.ndarray] | None = None
    regions: Sequence[np.ndarray] | None = None
    own_regions: Sequence[np.ndarray] | None = None

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
        own, regions, own_regions = (
            None if of_all is None else [of_all[row] for row in chosen]
            for of_all in (self.own_masks, self.regions, self.own_regions)
        )
        return replace(
            self,
            positions=np.searchsorted(positions, self.positions[chosen]),
            masks=masks,
            reason=reason,
            unmasked=0,
            empty=0,
            own_masks=own,
            regions=regions,
            own_regions=own_regions,
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
    own, own_regions = None, None
    regions = _regions(images, [images.size] * len(positions), [images.ignored(int(rows[at])) for at in positions])
    if resolution == "masks":
        sizes = [_size_to_measure(images, rows[position], found.get(position)) for position in positions]
        if any(size != images.size for size in sizes) and sum(h * w for h, w in sizes) <= MOST_PIXELS:
            own = [
                resize_mask(found[position], size) if position in found else np.zeros(size, dtype=bool)
                for position, size in zip(positions, sizes, strict=True)
            ]
            own_regions = _regions(images, sizes, [images.own_ignored(int(rows[at])) for at in positions])
    if own is None and not masks.any():
        height, width = images.size
        reason = (
            f"the masks vanish at {height} x {width} pixels, as what they mark is smaller than a pixel there; raise "
            "dataset.image_size, or set measuring.resolution to masks"
        )
    elif _are_full(masks, regions) if own is None else _are_full(own, own_regions):
        reason = "the masks leave no normal pixel"
    unmasked = int((anomalous & ~masked).sum())
    if reason:
        return GroundTruth(positions, masks, reason)
    return GroundTruth(positions, masks, None, unmasked, len(empty), own, regions, own_regions)


def _regions(
    images: ImageSet, sizes: Sequence[tuple[int, int]], ignored: Sequence[np.ndarray | None]
) -> list[np.ndarray] | None:
    """Return which pixels count of images of these sizes, None where all of all images do."""
    whole = {size: images.preparation.region_at(size) for size in set(sizes)}
    if all(region is None for region in whole.values()) and all(each is None for each in ignored):
        return None
    # Images without ignored pixels share one array of their size.
    whole = {size: np.ones(size, dtype=bool) if region is None else region for size, region in whole.items()}
    return [
        whole[size] if each is None else whole[size] & ~resize_mask(each, size)
        for size, each in zip(sizes, ignored, strict=True)
    ]


def _are_full(masks: Sequence[np.ndarray], regions: Sequence[np.ndarray] | None) -> bool:
    return all((mask if regions is None else mask[regions[row]]).all() for row, mask in enumerate(masks))


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
) -> tuple[np.ndarray | list[np.ndarray], Sequence[np.ndarray], Sequence[np.ndarray] | None]:
    """Return masks that pixels are measured against, the maps of their images at their size, and the regions.

    Regions say which pixels are measured, bool `(H, W)` each; None for all.
    """
    if truth.own_masks is None:
        return truth.masks, maps, truth.regions
    return truth.own_masks, UpsampledMaps(maps, [mask.shape for mask in truth.own_masks]), truth.own_regions
