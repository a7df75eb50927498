"""Anomaly maps at the resolution of the masks that they are measured against."""

from collections.abc import Sequence

import numpy as np
import torch

from kdad.metrics.ground_truth import GroundTruth
from kdad.scoring.smoothing import upsample


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


def measured_pair(truth: GroundTruth, maps: np.ndarray) -> tuple[np.ndarray | list[np.ndarray], Sequence[np.ndarray]]:
    """Return the masks that pixels are measured against, and the maps of their images `(N, H, W)` at their size."""
    if truth.own_masks is None:
        return truth.masks, maps
    return truth.own_masks, UpsampledMaps(maps, [mask.shape for mask in truth.own_masks])
