"""What predicts images, a detector or a file that one was exported to; and what it says of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from kdad.errors import InputError
from kdad.images.files.decoding import AnyImage, read_ahead, read_image, reading_threads
from kdad.images.files.fitting import Placement, Preparation, frame_of
from kdad.images.layouts.layout import batches_of, look_for_images, require_batch_size
from kdad.images.tiling import Tiling
from kdad.parameters.strict import StrictModel, nearest_name
from kdad.scoring.threshold import Calibration, MarkedRegion, PixelThreshold, Threshold, find_regions, least_pixels

#: Of a batch of large photographs: 200 MB.
PIXELS_TOGETHER = 1 << 24
#: An image `(3, H, W)` in [0, 1], or None and why it cannot be read.
Read = tuple[np.ndarray | None, str | None]


@dataclass(frozen=True)
class Prediction:
    """What a detector says of one image: larger scores are more anomalous; the map `(H, W)` is None without one."""

    score: float
    threshold: float
    decision: bool
    percentile: float
    map: np.ndarray | None = field(repr=False)

    @property
    def not_finite(self) -> str | None:
        """Say which of ``score`` and ``map`` is not finite, and so says nothing; None when both are."""
        if not np.isfinite(self.score):
            return "score"
        return None if self.map is None or np.isfinite(self.map).all() else "map"

    def as_placed(self, placement: Placement) -> "Prediction":
        """Return the prediction with its map turned back to how the image itself lies."""
        turns = self.map is not None and placement.turned
        return replace(self, map=placement.turn_back(self.map)) if turns else self

    def require_finite(self) -> None:
        """Raise `InputError` for a score or a map that is not finite."""
        if self.not_finite is not None:
            raise InputError(f"the {self.not_finite} of the image is not finite; look at it, and at the detector")


@dataclass(frozen=True)
class FilePrediction:
    """A file with what was said of it: the image `(3, H, W)` at its own size, or the `problem` why it has none.

    `placement` says which part of the image the map shows, and where; None for the whole.
    """

    path: Path
    image: np.ndarray | None = field(repr=False)
    prediction: Prediction | None
    milliseconds: float
    problem: str | None = None
    placement: Placement | None = None

    def checked(self) -> "FilePrediction":
        """Return it as it is, or with a problem for its prediction where score or map is not finite."""
        what = None if self.prediction is None else self.prediction.not_finite
        if what is None:
            return self
        return replace(self, prediction=None, problem=f"{self.path}: its {what} is not finite; look at the image")


def rank_score(score: float, validation: np.ndarray) -> float:
    """Return the share of normal validation scores `(N,)`, ascending, that are lower; NaN without any."""
    return float(np.searchsorted(validation, score, side="left") / validation.size) if validation.size else float("nan")


def colour_limits_of(maps: np.ndarray, region: np.ndarray | None = None) -> tuple[float, float]:
    """Return the values that colours run between, from smoothed maps `(N, H, W)` of normal images, and their region.

    From the median to twice as far above it as all but a thousandth of the pixels lie.
    """
    maps = maps if region is None else maps[:, region]
    sample = np.asarray(maps).reshape(-1)[:: max(maps.size // 1_000_000, 1)]
    middle, high = np.quantile(sample, [0.5, 0.999])
    return float(middle), float(middle + 2 * (high - middle))


def read_or_say(path: Path, preparation: Preparation, read: Callable[..., np.ndarray] | None = None) -> Read:
    """Return an image whose values are scaled as others were prepared, or why it cannot be read, or be predicted.

    `read` is asked for the image in the stead of `read_image`.
    """
    try:
        image = (read or read_image)(path, preparation.values, preparation.bands)
    except InputError as error:
        return None, str(error)
    wrong = None if preparation.region is None else preparation.region.difference(image.shape[1:])
    return (image, None) if wrong is None else (None, f"{path}: {wrong}; give images as the detector's own were")


class TiledThreshold(StrictModel):
    """A threshold of whole images by their tiles: the most of many tiles is larger than that of one."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="height and width of a tile in images' own pixels")
    overlap: int = Field(ge=0, description="pixels that neighbours share at least")
    threshold: Threshold
    validation_scores: list[float] = Field(description="of the normal images that it was set on, ascending")
    colour_limits: tuple[float, float] | None = Field(None, description="values that a heat map's colours run between")
    pixels: tuple[PositiveInt, PositiveInt] = Field(description="of the smallest and the largest of those images")
    calibrated_on: str = Field(description="the folder of those images")

    @property
    def tiling(self) -> Tiling:
        """The tiles that it belongs to."""
        return Tiling(self.size, self.overlap)

    @property
    def scores(self) -> np.ndarray:
        """The normal scores that others are ranked among, ascending."""
        return np.asarray(self.validation_scores)


def find_tiled(known: list[TiledThreshold], tiling: Tiling) -> TiledThreshold | None:
    """Return the threshold for these tiles, None where there is none."""
    return next((found for found in known if found.tiling == tiling), None)


def put_tiled(known: list[TiledThreshold], new: TiledThreshold) -> list[TiledThreshold]:
    """Return thresholds with a new one, in place of one for the same tiles."""
    return [*(found for found in known if found.tiling != new.tiling), new]


class Predictor(ABC):
    """What says of images `(B, 3, H, W)` in [0, 1] of one size how anomalous they are, and where.

    It has a threshold, the normal validation scores that others are ranked among, and a record of what made it.
    """

    system: str

    def __init__(self) -> None:
        self.size: tuple[int, int] = (0, 0)
        self.preparation = Preparation()  # of the images that it is made of, and of those that it predicts
        self.threshold: Threshold | None = None
        self.validation_scores = np.empty(0)
        self.colour_limits: tuple[float, float] | None = None
        self.pixel_threshold: PixelThreshold | None = None
        self.by_category: dict[str, Calibration] = {}  # of one that has learnt several
        self.tiled: list[TiledThreshold] = []  # of images that are predicted by tiles
        self.record: dict[str, Any] = {}  # which data, seed and commit made it, and its metrics
        self.digest = ""  # SHA-256 of what it was opened from, in hexadecimal digits

    @property
    @abstractmethod
    def methods(self) -> list[str]:
        """The maps that are measured; the first is shown. Empty for a system that makes none."""

    @property
    def region(self) -> np.ndarray | None:
        """Which pixels of maps count, bool `(H, W)`; None where all do."""
        return self.preparation.region_at(self.size)

    @abstractmethod
    def score_and_show(self, images: Tensor, outputs: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores `(B,)` of images `(B, 3, H, W)`, and the maps `(B, H, W)` that are shown, None without.

        `outputs` are those of a detector's frozen networks, where they are known already.
        """

    def predict_batch(self, images: Tensor, outputs: Any = None) -> list[Prediction]:
        """Predict images `(B, 3, H, W)`; raises `InputError` without a threshold, or for images of another size."""
        self.require_threshold()
        if tuple(images.shape[-2:]) != self.size:
            height, width = images.shape[-2:]
            raise InputError(
                f"images are {height} x {width}, but the detector was made for {self.size[0]} x {self.size[1]}"
            )
        scores, maps = self.score_and_show(images, outputs)
        shown = [None] * len(scores) if maps is None else maps
        return [self._prediction(float(score), shown[row]) for row, score in enumerate(scores)]

    def predict(self, image: AnyImage) -> Prediction:
        """Predict one image: a path, a PIL image or an array `(H, W)` or `(H, W, 3)`; prepared as in training.

        Raises `InputError` when score or map is not finite.
        """
        whole = read_image(image, self.preparation.values, self.preparation.bands)
        fitted, placement = self.placed(whole)
        found = self.predict_batch(torch.from_numpy(fitted)[None])[0].as_placed(placement)
        found.require_finite()
        return found

    def predict_folder(self, folder: str | Path, batch_size: int = 8) -> Iterator[FilePrediction]:
        """Return an iterator over every image file at or below a folder, in the order of their names; no masks.

        Raises `InputError` as `predict_files`, and for a folder without images.
        """
        return self.predict_files(look_for_images(Path(folder).expanduser()).paths, batch_size)

    def predict_files(
        self, paths: Iterable[Path], batch_size: int = 8, with_images: bool = True
    ) -> Iterator[FilePrediction]:
        """Return an iterator over files with their predictions.

        Up to `batch_size` images are in memory at once, fewer where they are large.

        `with_images` hands them on. A file that cannot be read, or whose score or map is not finite, has a `problem`
        and no prediction. Raises `InputError` for a batch size that is no whole number from 1 on.
        """
        return self._predict_batches(batches_of(paths, require_batch_size(batch_size), PIXELS_TOGETHER), with_images)

    def _predict_batches(self, batches: Iterable[list[Path]], with_images: bool) -> Iterator[FilePrediction]:
        for batch in batches:  # no name is left for a prediction, whose image is to be free
            yield from self._predict_together(batch, with_images)

    def _predict_together(self, batch: list[Path], with_images: bool) -> Iterator[FilePrediction]:
        """Yield the files of a batch with their predictions; its images are free when the next batch is read."""
        started = perf_counter()
        read = list(read_ahead(partial(read_or_say, preparation=self.preparation), batch, reading_threads()))
        yield from self.predict_read(batch, read, with_images, perf_counter() - started)

    def predict_read(
        self, paths: list[Path], read: list[Read], with_images: bool = True, seconds: float = 0.0
    ) -> Iterator[FilePrediction]:
        """Yield files with the predictions of what was read of them (`read_or_say`), which took `seconds`."""
        started = perf_counter() - seconds
        placed = [self.placed(image) for image, _ in read if image is not None]
        together = np.stack([fitted for fitted, _ in placed]) if placed else None
        found = iter([] if together is None else self.predict_batch(torch.from_numpy(together)))
        placements = iter([placement for _, placement in placed])
        share = 1000 * (perf_counter() - started) / len(paths)
        for path, (image, problem) in zip(paths, read, strict=True):
            if image is None:
                yield FilePrediction(path, None, None, share, problem)
                continue
            shown, placement = image if with_images else None, next(placements)
            yield FilePrediction(path, shown, next(found).as_placed(placement), share, None, placement).checked()

    def placed(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Return an image `(3, H, W)` of any size as it is predicted, `(3, h, w)`, and where it lies in that.

        Raises `InputError` where a region counts alone, and the image is of another size.
        """
        return self.preparation.placed(image, self.size)

    def regions(self, prediction: Prediction, placement: Placement) -> list[MarkedRegion] | None:
        """Return what of an image exceeds the pixel threshold, the largest first; None without map or threshold."""
        found, anomaly_map = self.pixel_threshold, prediction.map
        if found is None or anomaly_map is None:
            return None
        own = frame_of(placement.own, self.size, self.preparation.fit)
        least = least_pixels(found.min_area, own, self.size)
        if self.region is not None:
            anomaly_map = np.where(self.region, anomaly_map, -np.inf)
        scale = own[0] * own[1] / (self.size[0] * self.size[1])
        return [
            MarkedRegion(placement.own_box(*box), max(round(pixels * scale), 1))
            for box, pixels in find_regions(placement.shown.cut(anomaly_map), found.threshold.value, least)
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured when it was made, by name: image_auroc, pixel_auroc, pro_auc ..., None where undefined."""
        return self.record.get("metrics", {})

    @property
    def seen(self) -> frozenset[str]:
        """The digests (`hash_content`) of the files that it was trained or calibrated on; empty of an older one."""
        return frozenset(self.record.get("seen", "").split())

    def require_threshold(self) -> None:
        """Raise `InputError` for one that cannot decide yet."""
        if self.threshold is None:
            raise InputError("the detector has no threshold; run the pipeline 'calibration' on it first")

    def for_category(self, category: str) -> Self:
        """Return the same detector with the threshold of one of the categories that it has learnt.

        Raises `InputError` for a category that it has not.
        """
        if category not in self.by_category:
            known = nearest_name(category, [*self.by_category])
            raise InputError(
                f"the detector has no threshold of the category '{category}'"
                + (known if self.by_category else "; it decides by one threshold, and takes no category")
            )
        own = copy(self)
        found = self.by_category[category]
        return own.calibrated(found.threshold, np.array(found.validation_scores), self.colour_limits)

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
