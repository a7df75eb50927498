"""The ``cloner:`` and ``scoring:`` blocks: architecture, loss and training of the cloner; maps and scores."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kdad.detectors.parameters import SystemSettings
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.strict import PointChoice, StrictModel
from kdad.scoring.parameters import MappingParameters, SmoothingParameters

LocalisationMethod = Literal["discrepancy", "gradients", "smooth_grad", "guided_backprop", "integrated_gradients"]
_GRADIENTS = ("gradients", "smooth_grad", "guided_backprop", "integrated_gradients")
_FORWARD, _PUBLISHED = (
    SmoothingParameters(gaussian_sigma=2.0),
    SmoothingParameters(clip_quantile=0.99, gaussian_sigma=4.0, opening_size=3),
)


class ArchitectureParameters(StrictModel):
    """The size of the cloner."""

    size: Literal["small", "equal"] = Field("small", description="small (published), equal (the source's)")
    hidden_width: int = Field(16, ge=1, le=512, description="channels of the small cloner's inner convolutions")


class DiscrepancyParameters(StrictModel):
    """L_total = value_weight * L_val + direction_weight * L_dir (Salehi et al. 2021, eq. 1-3)."""

    value_weight: float = Field(0.5, ge=0, description="weight of L_val")
    direction_weight: float = Field(1.0, ge=0, description="weight of L_dir")
    direction_form: Literal["whole_vector", "per_location"] = Field(
        "per_location",
        description="cosine over a point's whole_vector (published), or over channels per_location",
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "DiscrepancyParameters":
        if self.value_weight == 0 and self.direction_weight == 0:
            raise ValueError("value_weight and direction_weight are both 0: nothing would be learnt")
        return self


class ClonerParameters(StrictModel):
    """The ``cloner:`` block."""

    architecture: ArchitectureParameters = Field(default_factory=ArchitectureParameters, description="its layers")
    loss: DiscrepancyParameters = Field(default_factory=DiscrepancyParameters, description="L_total")
    training_points: PointChoice = Field(
        "all", description="critical points in the loss: names, all, first N or last N"
    )
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(epochs=60), description="how it is trained"
    )


class DetectionParameters(StrictModel):
    """The detection score: one number an image, larger is more anomalous."""

    score: Literal["total_loss", "map_maximum", "map_top_mean"] = Field(
        "map_top_mean",
        description="total_loss: L_total (published); map_maximum, map_top_mean: of the forward map",
    )
    points: PointChoice = Field("last 3", description="critical points in total_loss; published: last 3")
    normalisation: Literal["none", "per_pixel"] = Field(
        "per_pixel", description="of the scored map; per_pixel: standardised at each pixel by training images"
    )
    top_fraction: float = Field(0.03, gt=0, le=1, description="share of pixels whose mean map_top_mean takes")


class ForwardMapParameters(StrictModel):
    """The forward map: the discrepancy at each location, upsampled and fused over critical points."""

    points: PointChoice = Field("first 3", description="critical points in the map")
    term: Literal["direction", "value", "total"] = Field(
        "total", description="direction: L_dir, value: L_val, total: both as the cloner's loss weighs them"
    )
    fusion: Literal["sum", "geometric_mean"] = Field(
        "geometric_mean", description="how points are combined; geometric_mean asks every resolution to agree"
    )


class GradientMapParameters(StrictModel):
    """Maps from the gradient of L_total with respect to the image (Salehi et al. 2021, section 3.3)."""

    points: PointChoice = Field("last 3", description="critical points in L_total; published: last 3")
    integrated_gradients_steps: int = Field(
        32, ge=1, description="images on the way from the mean training image, each a backward pass"
    )
    smooth_grad_samples: int = Field(50, ge=1, description="noisy copies of an image")
    smooth_grad_sd: float = Field(0.1, gt=0, description="standard deviation of the noise, images in [0, 1]")
    batch_size: int = Field(16, ge=1, description="images in one backward pass")


class ScoringParameters(MappingParameters):
    """The ``scoring:`` block."""

    localisation: list[LocalisationMethod] = Field(
        ["discrepancy", "gradients"], min_length=1, description="methods to map with; the first is shown"
    )
    smoothing: dict[LocalisationMethod, SmoothingParameters] = Field(
        default_factory=lambda: {"discrepancy": _FORWARD} | dict.fromkeys(_GRADIENTS, _PUBLISHED),
        description="what each map passes through: clip at a quantile, Gaussian, opening (pixels); 1, 0 and 0 leave a "
        "step out",
    )
    detection: DetectionParameters = Field(
        default_factory=DetectionParameters, description="the detection score: one number an image"
    )
    forward_map: ForwardMapParameters = Field(
        default_factory=ForwardMapParameters, description="the map that localises"
    )
    gradient_map: GradientMapParameters = Field(default_factory=GradientMapParameters, description="gradient maps")


class MkdSettings(SystemSettings):
    """Everything that makes an MKD detector: the blocks of its parameters."""

    source: SourceParameters
    features: FeatureParameters
    cloner: ClonerParameters
    scoring: ScoringParameters

    @classmethod
    def of_kept(cls, values: dict[str, Any]) -> "MkdSettings":
        """Return the settings of a detector that was kept; raises `InputError` for rules that are gone.

        L_total is predicted by as ever, however the map beside it was standardised.
        """
        detection = {"normalisation": "none"} | values["scoring"].get("detection", {})
        if detection.get("score") == "total_loss":
            today = {name: value for name, value in detection.items() if name in DetectionParameters.model_fields}
            detection = today | {"normalisation": "none"}
        return super().of_kept(values | {"scoring": values["scoring"] | {"detection": detection}})
