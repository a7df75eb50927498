"""The ``scoring:`` block: which score detects, which maps localise, how maps are smoothed, where the threshold is."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import PointChoice, StrictModel

LocalisationMethod = Literal["discrepancy", "gradients", "smooth_grad", "guided_backprop"]


class DetectionParameters(StrictModel):
    """The detection score: one number an image, larger is more anomalous."""

    score: Literal["total_loss", "map_maximum", "map_top_mean"] = Field(
        "map_top_mean", description="L_total (published), the forward map's maximum, or the mean of its largest values"
    )
    points: PointChoice = Field("all", description="critical points in L_total; published: last 3")
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels in map_top_mean")


class ForwardMapParameters(StrictModel):
    """The forward map: the discrepancy at each location, upsampled and fused over critical points."""

    points: PointChoice = Field("first 3", description="critical points in the map")
    fusion: Literal["sum", "geometric_mean"] = Field("geometric_mean", description="how points are combined")
    term: Literal["direction", "value", "total"] = Field("direction", description="discrepancy at a location")
    normalisation: Literal["none", "validation"] = Field(
        "none", description="divide each point's map by its mean over held-out normal images, or not"
    )


class GradientMapParameters(StrictModel):
    """Maps from the gradient of L_total with respect to the image (Salehi et al. 2021, section 3.3)."""

    points: PointChoice = Field("last 3", description="critical points in L_total; published: last 3")
    smooth_grad_samples: int = Field(50, ge=1, description="noisy copies of an image")
    smooth_grad_sd: float = Field(0.1, gt=0, description="standard deviation of the noise, images in [0, 1]")
    guided: Literal["cloner", "both"] = Field("cloner", description="whose ReLUs guide; published: the cloner's")
    batch_size: int = Field(16, ge=1, description="images in one backward pass")


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


class MeasuringParameters(StrictModel):
    """What measuring needs to know of any system's maps: their methods and filters, thresholds and limits."""

    localisation: list[str] = Field(min_length=1, description="methods to map with; the first is shown")
    smoothing: dict[str, SmoothingParameters]
    threshold_quantile: float = Field(0.95, gt=0, lt=1, description="quantile of held-out normal scores")
    bootstrap_resamples: int = Field(2000, ge=100, description="resamples for the interval of image AUROC")
    max_fpr: float = Field(0.3, gt=0, le=1, description="limit of the PRO curve's area")

    @classmethod
    def read(cls, scoring: dict[str, Any]) -> "MeasuringParameters":
        """Bind what measuring needs of any system's scoring block, and leave the rest."""
        return cls(**{name: scoring[name] for name in MeasuringParameters.model_fields if name in scoring})

    @model_validator(mode="after")
    def _methods_once(self) -> "MeasuringParameters":
        if len(set(self.localisation)) != len(self.localisation):
            raise ValueError(f"localisation names a method twice: {self.localisation}")
        missing = [method for method in self.localisation if method not in self.smoothing]
        if missing:
            raise ValueError(f"smoothing has no entry for {', '.join(missing)}; add one, {{}} for no step")
        return self


class ScoringParameters(MeasuringParameters):
    """The ``scoring:`` block."""

    localisation: list[LocalisationMethod] = Field(min_length=1, description="methods to map with; the first is shown")
    smoothing: dict[LocalisationMethod, SmoothingParameters]
    detection: DetectionParameters
    forward_map: ForwardMapParameters
    gradient_map: GradientMapParameters
