"""A predictor whose answers are known by hand."""

import numpy as np
import pytest

from kdad.detectors.predictor import Predictor
from kdad.scoring.threshold import quantile_threshold


class BrightPredictor(Predictor):
    """Says the mean of an image `(3, 8, 8)`, above 0.5 anomalous; its map is the mean of the channels."""

    system = "bright"
    methods = ("mean",)

    def __init__(self) -> None:
        super().__init__()
        self.size = (8, 8)
        self.batches: list[int] = []
        self.calibrated(quantile_threshold(np.full(4, 0.5), 0.5), np.array([0.2, 0.3, 0.4, 0.5]), (0.0, 1.0))
        self.record = {"dataset": "lamps", "category": "lit", "made": "today", "folder": "nowhere"}

    def turned(self) -> "BrightPredictor":
        """Return one that says how dark an image is, by another threshold."""
        other = BrightPredictor()
        other.calibrated(quantile_threshold(np.full(4, 0.25), 0.5), np.array([0.1, 0.2, 0.25]), (0.0, 1.0))
        other.is_turned, other.digest = True, "d" * 64
        return other

    is_turned = False

    def score_and_show(self, images, outputs=None):
        """Return means, and remember how many images were asked for."""
        self.batches.append(len(images))
        maps = images.mean(dim=1).numpy()
        maps = 1 - maps if self.is_turned else maps
        return maps.mean(axis=(1, 2)), maps


@pytest.fixture
def predictor() -> BrightPredictor:
    """A predictor whose answers are known by hand."""
    return BrightPredictor()
