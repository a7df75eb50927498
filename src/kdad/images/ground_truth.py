"""The masks that test images can be measured against."""

from dataclasses import dataclass

import numpy as np

from kdad.images.image_set import ImageSet
from kdad.images.splits import Split


@dataclass(frozen=True)
class GroundTruth:
    """Masks `(N, H, W)` of the test images at `positions` (among test images), or the `reason` why there are none.

    Normal images have an empty mask; the `unmasked` anomalous images without one are not among them.
    """

    positions: np.ndarray
    masks: np.ndarray
    reason: str | None
    unmasked: int = 0

    def shown(self, position: int) -> np.ndarray | None:
        """Return the mask of the test image at `position`, or None where it is not known."""
        if self.reason is not None:
            return None
        found = np.flatnonzero(self.positions == position)
        return self.masks[found[0]] if found.size else None


def read_ground_truth(split: Split, images: ImageSet) -> GroundTruth:
    """Read the masks of the test images."""
    rows, test = split.rows("test"), split.test_table
    positions = np.flatnonzero(((test["label"] == 0) | test["has_mask"]).to_numpy())
    masks = np.zeros((len(positions) if images.has_masks else 0, *images.size), dtype=bool)
    for mask, row in zip(masks, rows[positions], strict=False):
        found = images.mask(row)
        if found is not None:
            mask[:] = found
    reason = None
    if not (test["label"] == 1).any():
        reason = "the test images are all normal"
    elif not masks.any():
        reason = "this image set has no masks"
    elif masks.all():
        reason = "the masks leave no normal pixel"
    return GroundTruth(positions, masks, reason, 0 if reason else len(rows) - len(positions))
