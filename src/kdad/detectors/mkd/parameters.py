"""The ``cloner:`` and ``scoring:`` blocks: architecture, loss and training of the cloner; maps and scores."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kdad.parameters.scoring import MappingParameters, SmoothingParameters
from kdad.parameters.source import FeatureParameters, SourceParameters
from kdad.parameters.strict import PointChoice, StrictModel
from kdad.parameters.system import SystemSettings
from kdad.parameters.training import TrainingParameters

LocalisationMethod = Literal["discrepancy", "gradients", "smooth_grad", "guided_backprop", "integrated_gradients"]


class ArchitectureParameters(StrictModel):
    """The size of the cloner."""

    size: Literal["small", "equal", "free"] = Field(
        "small", description="small (published), equal (the source's), free"
    )
    hidden_width: int = Field(16, ge=1, le=512, description="channels of the small cloner's inner convolutions")
    hidden_widths: list[Annotated[int, Field(ge=1, le=512)]] | None = Field(
        None, description="small: hidden_width of each cloner; null: the same for all"
    )
    widths: list[list[int]] | None = Field(None, description="free: output channels of every convolution, by block")

    @model_validator(mode="after")
    def _widths_belong_to_free(self) -> "ArchitectureParameters":
        if (self.widths is not None) != (self.size == "free"):
            raise ValueError("widths goes with size=free, and size=free needs widths")
        if self.hidden_widths is not None and self.size != "small":
            raise ValueError(f"hidden_widths goes with size=small, and size is {self.size}; set one of them otherwise")
        if any(width < 1 for block in self.widths or [] for width in block):
            raise ValueError("widths holds a number below 1; each is a convolution's count of channels")
        return self


class DiscrepancyParameters(StrictModel):
    """L_total = value_weight * L_val + direction_weight * L_dir (Salehi et al. 2021, eq. 1-3)."""

    value_weight: float = Field(0.5, ge=0, description="weight of L_val")
    direction_weight: float = Field(1.0, ge=0, description="weight of L_dir")
    direction_form: Literal["whole_vector", "per_location"] = Field(
        "per_location",
        description="cosine over a point's whole activation (published), or over channels at each location",
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "DiscrepancyParameters":
        if self.value_weight == 0 and self.direction_weight == 0:
            raise ValueError("value_weight and direction_weight are both 0: nothing would be learnt")
        return self


class ClonerParameters(StrictModel):
    """The ``cloner:`` block."""

    count: int = Field(1, ge=1, description="cloners, trained together on one cache; more than one can disagree")
    architecture: ArchitectureParameters
    loss: DiscrepancyParameters
    training_points: PointChoice = Field("all", description="critical points in the training loss")
    training: TrainingParameters

    @model_validator(mode="after")
    def _one_width_a_cloner(self) -> "ClonerParameters":
        widths = self.architecture.hidden_widths
        if widths is not None and len(widths) != self.count:
            raise ValueError(
                f"architecture.hidden_widths has {len(widths)} widths and count is {self.count}; give one a cloner"
            )
        return self

    def architecture_of(self, number: int) -> ArchitectureParameters:
        """Return the architecture of the cloner of this number, from 0."""
        widths = self.architecture.hidden_widths
        if widths is None:
            return self.architecture
        return self.architecture.model_copy(update={"hidden_width": widths[number], "hidden_widths": None})


class PointMapParameters(StrictModel):
    """The rule of a map: the discrepancy at each location, upsampled and fused over critical points."""

    points: PointChoice = Field("all", description="critical points in the map")
    quantity: Literal["discrepancy", "disagreement", "both"] = Field(
        "discrepancy",
        description="what a point's map is of: the source against the cloners' mean, the cloners' variance, or both, "
        "as maps of their own",
    )
    term: Literal["direction", "value", "total"] = Field("direction", description="of the quantity at a location")
    normalisation: Literal["none", "validation", "position"] = Field(
        "none",
        description="divide each point's map by its mean over held-out normal images; or take away, at each position, "
        "what normal images have there, and divide by how it spreads; or neither",
    )
    fusion: Literal["sum", "geometric_mean"] = Field("geometric_mean", description="how points are combined")
    weighting: Literal["equal", "generalisation"] = Field(
        "equal",
        description="of standardised points in a sum: equal, or less the better training images are judged than "
        "held-out ones",
    )

    @model_validator(mode="after")
    def _what_can_be_put_together(self) -> "PointMapParameters":
        if self.normalisation == "position" and self.fusion == "geometric_mean":
            raise ValueError(
                "normalisation is 'position' and fusion 'geometric_mean', but half of the standardised values are "
                "negative and have no such mean; set fusion to sum, or normalisation to none"
            )
        if self.quantity == "both" and self.fusion == "sum" and self.normalisation == "none":
            raise ValueError(
                "quantity is 'both', fusion 'sum' and normalisation 'none', but discrepancy and disagreement are of "
                "different sizes; set normalisation to position or validation, or fusion to geometric_mean"
            )
        if self.weighting == "generalisation" and self.normalisation != "position":
            raise ValueError(
                f"weighting is 'generalisation' and normalisation '{self.normalisation}', but only points that are "
                "standardised can be weighed; set weighting to equal, or normalisation to position"
            )
        return self


class DetectionParameters(PointMapParameters):
    """The detection score: one number an image, larger is more anomalous; of L_total, or of a map by a rule of its own.

    For L_total only `points` matters.
    """

    score: Literal["total_loss", "map_maximum", "map_top_mean", "both_maps_top_mean"] = Field(
        "both_maps_top_mean",
        description="L_total (published), the map's maximum, the mean of its largest values, or this mean and that of "
        "the forward map, each standardised by held-out normal images, summed",
    )
    points: PointChoice = Field("last 3", description="critical points in L_total or the map; published: last 3")
    term: Literal["direction", "value", "total"] = Field("total", description="discrepancy at a location")
    normalisation: Literal["none", "validation", "position"] = Field("position", description="as of the forward map")
    fusion: Literal["sum", "geometric_mean"] = Field("sum", description="how points are combined")
    weighting: Literal["equal", "generalisation"] = Field("generalisation", description="as of the forward map")
    smoothing: SmoothingParameters = Field(
        default_factory=lambda: SmoothingParameters(gaussian_sigma=2.0), description="of the detection map"
    )
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels whose mean is taken")


class ForwardMapParameters(PointMapParameters):
    """The forward map, which localises."""

    points: PointChoice = Field("first 3", description="critical points in the map")


class GradientMapParameters(StrictModel):
    """Maps from the gradient of L_total with respect to the image (Salehi et al. 2021, section 3.3)."""

    points: PointChoice = Field("last 3", description="critical points in L_total; published: last 3")
    normalisation: Literal["none", "validation", "position"] = Field(
        "none",
        description="none (published): the gradient of L_total; else each point's own, which takes a backward pass a "
        "point, divided by its mean over held-out normal images, or standardised at each position, then summed",
    )
    integrated_gradients_steps: int = Field(
        32, ge=1, description="images on the way from the mean training image, each a backward pass"
    )
    smooth_grad_samples: int = Field(50, ge=1, description="noisy copies of an image")
    smooth_grad_sd: float = Field(0.1, gt=0, description="standard deviation of the noise, images in [0, 1]")
    guided: Literal["cloner", "both"] = Field("cloner", description="whose ReLUs guide; published: the cloner's")
    batch_size: int = Field(16, ge=1, description="images in one backward pass")


class ScoringParameters(MappingParameters):
    """The ``scoring:`` block."""

    localisation: list[LocalisationMethod] = Field(min_length=1, description="methods to map with; the first is shown")
    smoothing: dict[LocalisationMethod, SmoothingParameters]
    detection: DetectionParameters = Field(default_factory=DetectionParameters, description="the detection score")
    forward_map: ForwardMapParameters = Field(default_factory=ForwardMapParameters, description="the forward map")
    gradient_map: GradientMapParameters = Field(default_factory=GradientMapParameters, description="gradient maps")


class MkdSettings(SystemSettings):
    """Everything that makes an MKD detector: the blocks of its parameters."""

    source: SourceParameters
    features: FeatureParameters
    cloner: ClonerParameters
    scoring: ScoringParameters

    @model_validator(mode="after")
    def _one_cloner_cannot_disagree(self) -> "MkdSettings":
        for block in ("detection", "forward_map"):
            quantity = getattr(self.scoring, block).quantity
            if self.cloner.count == 1 and quantity != "discrepancy":
                raise ValueError(
                    f"scoring.{block}.quantity is '{quantity}' and cloner.count 1, but one cloner has none to disagree "
                    "with; set cloner.count to 2 or more, or the quantity to discrepancy"
                )
        return self
