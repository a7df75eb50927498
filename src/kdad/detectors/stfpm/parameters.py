"""The ``stfpm:`` block (Wang et al. 2021): source, student's training, maps and score."""

from typing import Literal

from pydantic import Field

from kdad.detectors.parameters import SystemSettings
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.strict import PointChoice, StrictModel
from kdad.scoring.parameters import SmoothingParameters


class StfpmParameters(StrictModel):
    """The ``stfpm:`` block."""

    source: SourceParameters = Field(default_factory=SourceParameters, description="the teacher; published: resnet18")
    features: FeatureParameters = Field(
        default_factory=lambda: FeatureParameters(activation_scaling="none"), description="how the source runs"
    )
    points: PointChoice = Field("first 3", description="critical points; published: layer1 to layer3 of resnet18")
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(epochs=50, learning_rate=0.4, optimiser="sgd", weight_decay=0.0001),
        description="published: 100 epochs of batches of 32",
    )
    normalisation: Literal["none", "per_pixel"] = Field(
        "none", description="none (published), or per_pixel: standardised at each pixel by training images"
    )
    smoothing: SmoothingParameters = Field(
        default_factory=SmoothingParameters, description="of the map; published: none"
    )
    score: Literal["map_maximum", "map_top_mean"] = Field("map_maximum", description="an image's score")
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels in map_top_mean")


class StfpmSettings(SystemSettings):
    """Everything that makes an STFPM detector: the block of its parameters."""

    stands_among_baselines = True

    stfpm: StfpmParameters
