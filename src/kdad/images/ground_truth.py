"""The masks that test images can be measured against."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdad.images.image_set import ImageSet


@dataclass(frozen=True)
class GroundTruth:
    """Masks `(N, H, W)` of the test images at `positions` (among test images), or the `reason` why there are none.

    Normal images have an empty mask; anomalous images without one are not among them.
    """

    positions: np.ndarray
    masks: np.ndarray
    reason: str | None


def split_rows(split_table: pd.DataFrame, split: str) -> np.ndarray:
    """Return the rows of a split in the image set's order."""
    return np.flatnonzero((split_table["split"] == split).to_numpy())


def scored_rows(split_table: pd.DataFrame) -> np.ndarray:
    """Return the rows that are scored: held-out normal images, then test images."""
    return np.concatenate([split_rows(split_table, split) for split in ("validation", "test")])


def read_ground_truth(split_table: pd.DataFrame, images: ImageSet) -> GroundTruth:
    """Read the masks of the test images."""
    rows = split_rows(split_table, "test")
    test = split_table.iloc[rows]
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
    return GroundTruth(positions, masks, reason)
