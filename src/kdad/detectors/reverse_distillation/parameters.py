"""The ``reverse_distillation:`` block (Deng and Li 2022): source, decoder's training, map and score."""

from typing import Literal

from pydantic import Field

from kdad.detectors.parameters import SystemSettings
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.strict import PointChoice, StrictModel
from kdad.scoring.parameters import SmoothingParameters


class ReverseDistillationParameters(StrictModel):
    """The ``reverse_distillation:`` block."""

    source: SourceParameters = Field(
        default_factory=SourceParameters, description="the teacher; published: wide_resnet50_2"
    )
    features: FeatureParameters = Field(
        default_factory=lambda: FeatureParameters(activation_scaling="none"), description="how the source runs"
    )
    points: PointChoice = Field("first 3", description="critical points; published: layer1 to layer3")
    loss: Literal["whole_map", "per_location", "both"] = Field(
        "both",
        description="the cosine is of the whole_map (published code), per_location (paper), or both are added",
    )
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(epochs=80, learning_rate=0.005),
        description="published: 200 epochs at a constant rate, momentum 0.5",
    )
    fusion: Literal["sum", "geometric_mean"] = Field(
        "geometric_mean", description="how points are combined, sum (published) or geometric_mean"
    )
    normalisation: Literal["none", "per_pixel"] = Field(
        "none", description="none (published), or per_pixel: standardised at each pixel by training images"
    )
    smoothing: SmoothingParameters = Field(
        default_factory=lambda: SmoothingParameters(gaussian_sigma=4.0),
        description="of the map; published: 4 at 256 pixels",
    )
    score: Literal["map_maximum", "map_top_mean"] = Field(
        "map_top_mean", description="an image's score; published: map_maximum"
    )
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels in map_top_mean")


class ReverseDistillationSettings(SystemSettings):
    """Everything that makes a detector by reverse distillation: the block of its parameters."""

    stands_among_baselines = True

    reverse_distillation: ReverseDistillationParameters
