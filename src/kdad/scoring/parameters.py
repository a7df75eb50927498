"""What every system's maps and scores pass through: smoothing, the score of an image, what is measured."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


class SmoothingParameters(StrictModel):
    """Steps after a map: its peaks clipped, a Gaussian filter, then a grey opening; 1, 0 and 0 leave a step out."""

    clip_quantile: float = Field(
        1.0, gt=0, le=1, description="values above this quantile of their own map are lowered to it; published: 0.99"
    )
    gaussian_sigma: float = Field(0.0, ge=0, description="standard deviation in pixels")
    opening_size: int = Field(0, ge=0, description="diameter of the elliptic element in pixels, odd")

    @model_validator(mode="after")
    def _odd_opening(self) -> "SmoothingParameters":
        if self.opening_size and self.opening_size % 2 == 0:
            raise ValueError(f"opening_size is {self.opening_size}; it must be odd (0 leaves the opening out)")
        return self


class MappingParameters(StrictModel):
    """Which maps a system makes, and how each is smoothed."""

    localisation: list[str] = Field(min_length=1, description="methods to map with; the first is shown")
    smoothing: dict[str, SmoothingParameters]

    @model_validator(mode="after")
    def _methods_once(self) -> "MappingParameters":
        if len(set(self.localisation)) != len(self.localisation):
            raise ValueError(f"localisation names a method twice: {self.localisation}")
        missing = [method for method in self.localisation if method not in self.smoothing]
        if missing:
            raise ValueError(f"smoothing has no entry for {', '.join(missing)}; add one, {{}} for no step")
        return self


#: Whether pixels are measured at the masks' own resolution, or at the size that images are resized to.
MaskResolution = Literal["masks", "model"]


#: How several images of one part get one score.
GroupScore = Literal["max", "mean"]


class MeasuringParameters(StrictModel):
    """The ``measuring:`` block: one for all systems, so that no table compares unequal metrics."""

    threshold_quantile: float = Field(0.95, gt=0, lt=1, description="quantile of normal validation scores")
    group_score: GroupScore | None = Field(
        None,
        description="max | mean of a group's images (dataset.groups: views of one part), which is then decided on as "
        "one; null: images are",
    )
    min_area: int = Field(
        1,
        ge=1,
        description="pixels of an image's file that a marked region has at least (docs/reference/thresholds.md)",
    )
    bootstrap_resamples: int = Field(2000, ge=100, description="resamples for the interval of image AUROC")
    max_fpr: float = Field(0.3, gt=0, le=1, description="limit of the PRO curve's area")
    resolution: MaskResolution = Field(
        "masks",
        description="where pixels are measured: maps enlarged to the masks' own size, or at the model's",
    )


#: How an image's score comes about: a number of its own, or a map's maximum or the mean of its highest values.
ScoreRule = Literal["raw", "map_maximum", "map_top_mean"]

#: How a threshold is set: on normal images alone, or, by those of `LABELLED_RULES`, on anomalous ones too; ``value`` is
#: one's own.
ThresholdRule = Literal["quantile", "false_positive_rate", "f1", "youden", "true_positive_rate", "value"]
LABELLED_RULES = ("f1", "youden", "true_positive_rate")
RULES_WITHOUT_VALUE = ("f1", "youden")


class DriftParameters(StrictModel):
    """How scores are compared with those of normal validation images."""

    alpha: float = Field(
        0.01, gt=0, le=0.2, description="chance of a false report: of one inference, or in all the life of a watch"
    )
    window: int = Field(200, ge=40, description="of a watch: the latest images that are compared, every half window")
