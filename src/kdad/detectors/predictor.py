"""What judges images: a detector, or a file that one was exported to."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kdad.detectors.prediction import FilePrediction, Prediction, rank_score, read_or_say
from kdad.detectors.tiled_threshold import TiledThreshold
from kdad.errors import InputError
from kdad.images.files.fitting import Placement, Preparation, fit_image, place
from kdad.images.files.reading import AnyImage, read_ahead, read_image, reading_threads
from kdad.images.found import batches_of, look_for_images
from kdad.scoring.threshold import Threshold

_PIXELS = 1 << 24  # of a batch of large photographs: 200 MB


class Predictor(ABC):
    """What says of images `(B, 3, H, W)` in [0, 1] of one size how anomalous they are, and where.

    It has a threshold, the normal validation scores that others are ranked among, and a record of what made it.
    """

    system: str

    def __init__(self) -> None:
        self.size: tuple[int, int] = (0, 0)
        self.preparation = Preparation()  # of the images that it is made of, and of those that it judges
        self.threshold: Threshold | None = None
        self.validation_scores = np.empty(0)
        self.colour_limits: tuple[float, float] | None = None
        self.tiled: list[TiledThreshold] = []  # of images that are judged by tiles
        self.record: dict[str, Any] = {}  # which data, seed and commit made it, and its metrics

    @property
    @abstractmethod
    def methods(self) -> list[str]:
        """The maps that are measured; the first is shown. Empty for a system that makes none."""

    @abstractmethod
    def score_and_show(self, images: Tensor, outputs: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores `(B,)` of images `(B, 3, H, W)`, and the maps `(B, H, W)` that are shown, None without.

        `outputs` are those of a detector's frozen networks, where they are known already.
        """

    def predict_batch(self, images: Tensor, outputs: Any = None) -> list[Prediction]:
        """Judge images `(B, 3, H, W)`; raises `InputError` without a threshold, or for images of another size."""
        if self.threshold is None:
            raise InputError("the detector has no threshold yet; calibrate it on normal images")
        if tuple(images.shape[-2:]) != self.size:
            height, width = images.shape[-2:]
            raise InputError(
                f"images are {height} x {width}, but the detector was made for {self.size[0]} x {self.size[1]}"
            )
        scores, maps = self.score_and_show(images, outputs)
        shown = [None] * len(scores) if maps is None else maps
        return [self._prediction(float(score), shown[row]) for row, score in enumerate(scores)]

    def predict(self, image: AnyImage) -> Prediction:
        """Judge one image: a path, a PIL image or an array `(H, W)` or `(H, W, 3)`; prepared as in training.

        Raises `InputError` when score or map is not finite.
        """
        prepared = self.fitted(read_image(image, self.preparation.values))
        found = self.predict_batch(torch.from_numpy(prepared)[None])[0]
        found.require_finite()
        return found

    def predict_folder(self, folder: str | Path, batch_size: int = 8) -> Iterator[FilePrediction]:
        """Yield every image file at or below a folder with its prediction, in the order of their names; no masks."""
        return self.predict_files(look_for_images(Path(folder).expanduser()).paths, batch_size)

    def predict_files(
        self, paths: Iterable[Path], batch_size: int = 8, with_images: bool = True
    ) -> Iterator[FilePrediction]:
        """Yield files with their predictions, up to `batch_size` images in memory at once, fewer where they are large.

        `with_images` hands them on. A file that cannot be read, or whose score or map is not finite, has a `problem`
        and no prediction.
        """
        for batch in batches_of(paths, batch_size, _PIXELS):
            yield from self._predict_together(batch, with_images)

    def _predict_together(self, batch: list[Path], with_images: bool) -> Iterator[FilePrediction]:
        """Yield the files of a batch with their predictions; its images are free when the next batch is read."""
        started = perf_counter()
        read = list(read_ahead(partial(read_or_say, values=self.preparation.values), batch, reading_threads()))
        resized = [self.fitted(image) for image, _ in read if image is not None]
        found = iter(self.predict_batch(torch.from_numpy(np.stack(resized))) if resized else [])
        share = 1000 * (perf_counter() - started) / len(batch)
        for path, (image, problem) in zip(batch, read, strict=True):
            if image is None:
                yield FilePrediction(path, None, None, share, problem)
                continue
            shown, placement = image if with_images else None, self.placement_of(image)
            yield FilePrediction(path, shown, next(found), share, None, placement).checked()

    def fitted(self, image: np.ndarray) -> np.ndarray:
        """Return an image `(3, H, W)` of any size as it is judged, `(3, h, w)`."""
        return fit_image(image, self.size, self.preparation.fit)

    def placement_of(self, image: np.ndarray) -> Placement:
        """Return where an image `(3, H, W)` lies in what is judged of it."""
        return place(image.shape[1:], self.size, self.preparation.fit)

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured when it was made, by name: image_auroc, pixel_auroc, pro_auc ..., None where undefined."""
        return self.record.get("metrics", {})

    def require_threshold(self) -> None:
        """Raise `InputError` for one that cannot decide yet."""
        if self.threshold is None:
            raise InputError("the detector has no threshold; run the pipeline 'calibration' on it first")

    def calibrated(
        self, threshold: Threshold, validation_scores: np.ndarray, colour_limits: tuple[float, float] | None = None
    ) -> Self:
        """Set the threshold, the normal validation scores that others are ranked among, and colours' limits."""
        self.threshold, self.validation_scores = threshold, np.sort(validation_scores.astype(np.float64))
        self.colour_limits = colour_limits
        return self

    def _prediction(self, score: float, anomaly_map: np.ndarray | None) -> Prediction:
        value = self.threshold.value
        return Prediction(score, value, score > value, rank_score(score, self.validation_scores), anomaly_map)
