"""What a detector says of an image, and of a file that may not be one."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kdad.errors import InputError
from kdad.images.files.fitting import Placement
from kdad.images.files.reading import read_image
from kdad.images.files.value_range import ValueRange


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


def colour_limits_of(maps: np.ndarray) -> tuple[float, float]:
    """Return the values that colours run between, from smoothed maps `(N, H, W)` of normal images.

    From the median to twice as far above it as all but a thousandth of the pixels lie.
    """
    sample = np.asarray(maps).reshape(-1)[:: max(maps.size // 1_000_000, 1)]
    middle, high = np.quantile(sample, [0.5, 0.999])
    return float(middle), float(middle + 2 * (high - middle))


def read_or_say(path: Path, values: ValueRange | None) -> tuple[np.ndarray | None, str | None]:
    """Return an image of which `values` become 0 and 1, or why it cannot be read."""
    try:
        return read_image(path, values), None
    except InputError as error:
        return None, str(error)
