"""The ``cloner:`` and ``scoring:`` blocks: architecture, loss and training of the cloner; maps and scores."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kdad.detectors.mkd.rule_parameters import (
    FIXED,
    ChoosingParameters,
    DetectionParameters,
    ForwardMapParameters,
    PointMapParameters,
    path_of_rule,
)
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
    choose: Literal["none", "drawn_defects"] = Field(
        "none",
        description="whether detection and forward_map are judged by as they stand, or give way to better candidates",
    )
    choosing: ChoosingParameters = Field(default_factory=ChoosingParameters, description="how rules are chosen")

    def rules(self, block: str) -> dict[str, PointMapParameters]:
        """Return the rules of ``detection`` or ``forward_map`` by name: the fixed one, and candidates of a choice."""
        tried = getattr(self.choosing.candidates, block) if self.choose == "drawn_defects" else {}
        return {FIXED: getattr(self, block), **tried}

    @property
    def every_rule(self) -> dict[str, PointMapParameters]:
        """The rules of both by where they stand among the parameters."""
        blocks = ("detection", "forward_map")
        return {path_of_rule(block, name): rule for block in blocks for name, rule in self.rules(block).items()}

    @model_validator(mode="after")
    def _something_to_choose_from(self) -> "ScoringParameters":
        candidates = self.choosing.candidates
        if self.choose == "drawn_defects" and not (candidates.detection or candidates.forward_map):
            raise ValueError(
                "choose is 'drawn_defects', but choosing.candidates names no rule; name some, or set choose to none"
            )
        return self


class MkdSettings(SystemSettings):
    """Everything that makes an MKD detector: the blocks of its parameters."""

    source: SourceParameters
    features: FeatureParameters
    cloner: ClonerParameters
    scoring: ScoringParameters

    @model_validator(mode="after")
    def _one_cloner_cannot_disagree(self) -> "MkdSettings":
        for path, rule in self.scoring.every_rule.items():
            if self.cloner.count == 1 and rule.quantity != "discrepancy":
                raise ValueError(
                    f"{path}.quantity is '{rule.quantity}' and cloner.count 1, but one cloner has none to disagree "
                    "with; set cloner.count to 2 or more, or the quantity to discrepancy"
                )
        return self
