"""Rules of the ``scoring:`` block: of the maps that detect and localise, and those that may take their place."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.scoring import SmoothingParameters
from kdad.parameters.strict import PointChoice, StrictModel

#: What the rules of `scoring.detection` and `scoring.forward_map` are called beside candidates.
FIXED = "fixed"


def path_of_rule(block: str, name: str) -> str:
    """Return where the rule of this name stands among the parameters."""
    return f"scoring.{block}" if name == FIXED else f"scoring.choosing.candidates.{block}.{name}"


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

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that points have maps of; of both the discrepancy comes first."""
        return ("discrepancy", "disagreement") if self.quantity == "both" else (self.quantity,)

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


class CandidateParameters(StrictModel):
    """Rules that may take a fixed one's place, by names."""

    detection: dict[str, DetectionParameters] = Field({}, description="rules of the detection score")
    forward_map: dict[str, ForwardMapParameters] = Field({}, description="rules of the forward map")

    @model_validator(mode="after")
    def _fixed_is_taken(self) -> "CandidateParameters":
        for block in ("detection", "forward_map"):
            if FIXED in getattr(self, block):
                raise ValueError(f"{block} names a rule '{FIXED}', which scoring.{block} is called; name it otherwise")
        return self


class ChoosingParameters(StrictModel):
    """How rules are chosen by defects drawn on held-out normal images."""

    drawn_images: int = Field(108, ge=9, description="images with a drawn defect; the same number of each kind")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="that a rule which takes the fixed one's place is better")
    margin: float = Field(0.01, ge=0, le=1, description="by how much it is better, in AUROC or PRO")
    candidates: CandidateParameters = Field(default_factory=CandidateParameters, description="rules that are tried")
