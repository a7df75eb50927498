"""What an exported file says, beside what its detector says in float32 of the same images."""

from dataclasses import dataclass

import numpy as np
import torch

from kdad.detectors.detector import Detector
from kdad.detectors.exported.checked_images import CheckedImage
from kdad.detectors.exported.runtime import Runtime
from kdad.images.files.reading import read_image
from kdad.metrics.pixel_ranking import pixel_auroc
from kdad.metrics.ranking import image_auroc

#: How far scores may be apart that should be the same, as a share of their range; of maps, whose single pixels may be
#: quotients by small spreads, ten times as far.
TOLERANCE, MAP_TOLERANCE = 1e-4, 1e-3


@dataclass(frozen=True)
class Answers:
    """Scores `(N,)` of images by the detector and by the file, and the largest difference of their maps as a share.

    Pixel AUROCs are None where no image has a mask.
    """

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray  # float, NaN for unknown
    validation: np.ndarray
    map_difference: float | None
    pixel_auroc_before: float | None
    pixel_auroc: float | None

    @property
    def score_difference(self) -> float:
        """The largest difference of two scores, as a share of the detector's range; NaN where one is not finite."""
        return _share(np.abs(self.after - self.before).max(), self.before)

    @property
    def tested(self) -> np.ndarray:
        """Which images are counted: test images, or all where those are not of both kinds.

        A threshold is a validation score itself, so that rounding alone decides on which side of it that image falls.
        """
        kinds = set(self.labels[~self.validation])
        return ~self.validation if {0.0, 1.0} <= kinds else np.ones_like(self.validation)

    def image_aurocs(self) -> tuple[float, float] | tuple[None, None]:
        """Return the detector's and the file's image AUROC; None without both labels."""
        known = ~np.isnan(self.labels) & self.tested
        labels = self.labels[known]
        if not {0.0, 1.0} <= set(labels):
            return None, None
        before, after = (image_auroc(labels.astype(int), scores[known]) for scores in (self.before, self.after))
        return before, after


def prepared(detector: Detector, image: CheckedImage) -> np.ndarray:
    """Return an image as the detector takes it, `(3, h, w)`."""
    return detector.fitted(read_image(image.pixels(), detector.preparation.values))


def compare(detector: Detector, runtime: Runtime, images: list[CheckedImage]) -> Answers:
    """Have both judge the images one by one."""
    before, after, shown = [], [], []
    differences, lowest, highest = [], np.inf, -np.inf
    for image in images:
        scores, maps = detector.score_and_show(torch.from_numpy(prepared(detector, image))[None])
        found = runtime.run_pixels(np.ascontiguousarray(image.pixels()[None]))
        before.append(float(scores[0]))
        after.append(float(found[0][0]))
        if maps is None:
            continue
        differences.append(float(np.abs(found[1][0] - maps[0]).max()))
        lowest, highest = min(lowest, maps.min()), max(highest, maps.max())
        mask = image.mask()
        if mask is None and image.label == 0 and not image.validation:
            mask = np.zeros(maps.shape[1:], dtype=bool)
        if mask is not None:
            shown.append((mask, maps[0], found[1][0]))
    aurocs = [None, None]
    if any(mask.any() for mask, _, _ in shown):
        masks, *both = (np.stack(stack) for stack in zip(*shown, strict=True))
        aurocs = [float(pixel_auroc(masks, maps)) for maps in both]
    return Answers(
        np.array(before),
        np.array(after),
        np.array([np.nan if image.label is None else image.label for image in images], dtype=float),
        np.array([image.validation for image in images]),
        _share(max(differences), np.array([lowest, highest])) if differences else None,
        *aurocs,
    )


def _share(difference: float, values: np.ndarray) -> float:
    """Return a difference as a share of the range of values, or of their size where all are the same."""
    spread = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    return float(difference / spread)
