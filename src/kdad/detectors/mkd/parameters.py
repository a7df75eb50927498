"""The ``cloner:`` block: architecture, loss and training of the cloner."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import PointChoice, StrictModel
from kdad.parameters.training import TrainingParameters


class ArchitectureParameters(StrictModel):
    """The size of the cloner."""

    size: Literal["small", "equal", "free"] = Field(
        "small", description="small (published), equal (the source's), free"
    )
    hidden_width: int = Field(16, ge=1, le=512, description="channels of the small cloner's inner convolutions")
    widths: list[list[int]] | None = Field(None, description="free: output channels of every convolution, by block")

    @model_validator(mode="after")
    def _widths_belong_to_free(self) -> "ArchitectureParameters":
        if (self.widths is not None) != (self.size == "free"):
            raise ValueError("widths goes with size=free, and size=free needs widths")
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

    architecture: ArchitectureParameters
    loss: DiscrepancyParameters
    training_points: PointChoice = Field("all", description="critical points in the training loss")
    training: TrainingParameters
