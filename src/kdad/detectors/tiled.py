"""Images larger than a detector's own, predicted by overlapping tiles whose maps are blended into one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.detectors.detector import Detector
from kdad.detectors.predictor import FilePrediction, Prediction, TiledThreshold, rank_score, read_or_say
from kdad.images.files.decoding import AnyImage, read_image
from kdad.images.files.fitting import Box, Placement, fit_image
from kdad.images.layouts.layout import require_batch_size
from kdad.images.tiling import TileGrid
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.smoothing import reach_of, smooth


class TiledPredictor:
    """Predicts images by tiles, and those that one tile holds as the detector does.

    Raw maps are blended at the image's own size, then smoothed and scored as one map; the mean of the highest values is
    of as many pixels as of one tile, so that a defect weighs what it weighs there. A score that is of no map is the
    most of the tiles' own. `batch_size` tiles are in memory at once, beside the image and its maps. Of a region the
    pixels inside count alone, and tiles outside of it say nothing.
    """

    def __init__(self, detector: Detector, found: TiledThreshold, batch_size: int = 8) -> None:
        self.detector, self.found, self.batch_size = detector, found, require_batch_size(batch_size)
        self.tiling = found.tiling
        # Of images that are cut; those that one tile holds have the detector's own.
        self.threshold, self.validation_scores = found.threshold, found.scores
        self.colour_limits = found.colour_limits or detector.colour_limits
        region = detector.preparation.region
        #: Which pixels of maps count, bool `(H, W)`; None where all do.
        self.region = None if region is None else region.mask

    def predict(self, image: AnyImage) -> Prediction:
        """Predict one image: a path, a PIL image or an array `(H, W)` or `(H, W, 3)`; its map is of its own size."""
        preparation = self.detector.preparation
        return self._predict(read_image(image, preparation.values, preparation.bands))[0]

    def predict_files(
        self, paths: Iterable[Path], batch_size: int = 8, with_images: bool = True
    ) -> Iterator[FilePrediction]:
        """Yield files with their predictions as `Detector.predict_files` does; one image is in memory at once."""
        for path in paths:
            started = perf_counter()
            image, problem = read_or_say(path, self.detector.preparation)
            if image is None:
                yield FilePrediction(path, None, None, 1000 * (perf_counter() - started), problem)
                continue
            prediction, placement = self._predict(image)
            milliseconds = 1000 * (perf_counter() - started)
            shown = image if with_images else None
            yield FilePrediction(path, shown, prediction, milliseconds, None, placement).checked()
            del image, shown, prediction  # before the next is read

    def _predict(self, image: np.ndarray) -> tuple[Prediction, Placement | None]:
        if self.tiling.hold_whole(image.shape[1:]):
            fitted, placement = self.detector.placed(image)
            return self.detector.predict_batch(torch.from_numpy(fitted)[None])[0], placement
        score, shown = self.score_and_map(image)
        value = self.threshold.value
        return Prediction(score, value, score > value, rank_score(score, self.validation_scores), shown), None

    @torch.no_grad()
    def score_and_map(self, image: np.ndarray) -> tuple[float, np.ndarray | None]:
        """Return the score of an image `(3, H, W)` by its tiles, and the map `(H, W)` to show, if there is one."""
        image = image if self.region is None else self.detector.preparation.region.apply(image)
        grid, wanted = TileGrid(image.shape[1:], self.tiling), self.detector.needed_methods
        reach = max((reach_of(self._steps(name)) for name in wanted), default=0)
        near = [number for number in grid if self._counts(grid.boxes[number], reach)]
        blended = {name: np.zeros(grid.own, np.float32) for name in wanted}
        highest: dict[str, Tensor] = {}
        for start in range(0, len(near), self.batch_size):
            numbers = near[start : start + self.batch_size]
            inside = torch.tensor([self._counts(grid.boxes[number]) for number in numbers])
            # Tiles have the detector's proportions, so that nothing is stretched, filled or cut.
            tiles = [fit_image(grid.cut(image, number), self.detector.size, "resize") for number in numbers]
            raw = self.detector.maps(torch.from_numpy(np.stack(tiles)), None, wanted)
            for name, scores in raw.scores.items():
                most = scores.where(inside.to(scores.device), -torch.inf).amax(0, keepdim=True)
                highest[name] = torch.maximum(highest.get(name, most), most)
            for name in wanted:
                for number, tile in zip(numbers, self._at_own_size(raw.maps[name]).cpu().numpy(), strict=True):
                    box = grid.boxes[number]
                    box.cut(blended[name])[...] += tile[: box.height, : box.width] * grid.weights(number)
        smoothed = {
            name: smooth(torch.from_numpy(blended.pop(name))[None], self._steps(name), self.region) for name in wanted
        }
        rule, one, pixels = self.detector.image_score, grid.boxes[0], grid.own[0] * grid.own[1]
        counting = pixels if self.region is None else int(self.region.sum())
        share = min(one.height * one.width, counting) / pixels
        score = replace(rule, top_fraction=rule.top_fraction * share).of_images(highest, smoothed).item()
        return score, smoothed[self.detector.methods[0]][0].numpy() if self.detector.methods else None

    def _counts(self, box: Box, reach: int = 0) -> bool:
        """Tell whether a pixel of the region lies in a tile, or within `reach` of it."""
        if self.region is None:
            return True
        top, left = max(box.top - reach, 0), max(box.left - reach, 0)
        return bool(self.region[top : box.top + box.height + reach, left : box.left + box.width + reach].any())

    def _at_own_size(self, maps: Tensor) -> Tensor:
        """Return a batch's maps `(B, h, w)` at the size of tiles, which may be smaller."""
        if maps.shape[1:] == self.tiling.size:
            return maps
        return interpolate(maps[:, None], size=self.tiling.size, mode="bilinear", antialias=True)[:, 0]

    def _steps(self, name: str) -> SmoothingParameters:
        """Return what a map passes through, in the image's own pixels."""
        steps, scale = self.detector.smoothing(name), self.tiling.size[0] / self.detector.size[0]
        opening = max(2 * round((steps.opening_size * scale - 1) / 2) + 1, 0) if steps.opening_size else 0
        return steps.model_copy(update={"gaussian_sigma": steps.gaussian_sigma * scale, "opening_size": opening})
