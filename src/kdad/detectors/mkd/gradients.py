"""A detector's gradient maps by method, and what they keep of normal images."""

import numpy as np
from torch import Tensor

from kdad.compute import Compute
from kdad.detectors.mkd.gradient_map import GradientMap, TotalOf
from kdad.detectors.mkd.mean_image import mean_image_state, measure_mean_image, take_mean_image
from kdad.detectors.mkd.normalised_map import NormalisedMap, measure_maps
from kdad.detectors.mkd.parameters import ScoringParameters
from kdad.features.seen import SeenImages

#: The methods that differentiate, in the order of their names in the documents.
GRADIENT_METHODS = ("gradients", "smooth_grad", "guided_backprop", "integrated_gradients")


class Gradients:
    """The gradient maps that a detector is asked for, of critical points at these `positions`."""

    def __init__(
        self, scoring: ScoringParameters, positions: list[int], size: tuple[int, int], total_of: TotalOf, seed: int
    ) -> None:
        self.size, self.total_of, self.seed, self.batch_size = size, total_of, seed, scoring.gradient_map.batch_size
        self.maps = {
            method: GradientMap(method, scoring.gradient_map, positions, size, scoring.smoothing[method].gaussian_sigma)
            for method in scoring.localisation
            if method in GRADIENT_METHODS
        }
        self.mean_image: Tensor | None = None

    @property
    def normalised(self) -> dict[str, NormalisedMap]:
        """Those that are normalised; others keep no constants."""
        return {method: made for method, made in self.maps.items() if made.parts}

    def measure(self, seen: SeenImages, compute: Compute) -> None:
        """Measure on normal images what the maps need of them."""
        if "integrated_gradients" in self.maps:
            self.mean_image = measure_mean_image(seen, self.batch_size)
        for made in self.normalised.values():

            def points_maps(rows: np.ndarray, made: GradientMap = made) -> list[Tensor]:
                return made.points_maps(self.total_of, compute.move(seen.batch(rows)), self.seed, self.mean_image)

            measure_maps([made], seen.split, points_maps, self.batch_size)

    def map(self, method: str, images: Tensor) -> Tensor:
        """Return the maps `(B, H, W)` of images `(B, 3, H, W)`."""
        return self.maps[method].map(self.total_of, images, self.seed, self.mean_image)

    def state(self) -> dict[str, Tensor]:
        """Return what is kept as tensors beside the maps' constants."""
        return mean_image_state(self.mean_image)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take what `state` returned out of what was kept; raises `ValueError` for what does not fit."""
        if "integrated_gradients" in self.maps:
            self.mean_image = take_mean_image(state, self.size)
