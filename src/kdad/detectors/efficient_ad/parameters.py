"""The ``efficient_ad:`` block (Batzner et al. 2024): teacher, what the student learns, maps and score."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.networks.parameters import smallest_image
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import StrictModel
from kdad.scoring.parameters import SmoothingParameters

#: Pixels of the patch that a descriptor is of, and between descriptors: both are published.
RECEPTIVE_FIELD, STRIDE = 33, 4


class EfficientAdParameters(StrictModel):
    """The ``efficient_ad:`` block."""

    teacher: TeacherParameters = Field(
        default_factory=lambda: TeacherParameters(distillation="dense", compactness_weight=0.0),
        description="as that of Uninformed Students, which shares it where all is the same; published: dense",
    )
    hard_quantile: float = Field(
        0.999, ge=0, lt=1, description="the student learns from errors above this quantile of an image's; 0: from all"
    )
    penalty_weight: float = Field(
        1.0, ge=0, description="of the student's squared output for crops of natural images; 0 leaves it out"
    )
    autoencoder: bool = Field(
        True, description="whether an autoencoder, and a second half of the student's channels, look at the whole image"
    )
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(
            epochs=40, batch_size=2, learning_rate=0.002, weight_decay=1e-5, checkpoint_every=5
        ),
        description="of student and autoencoder; published: 70,000 steps of single images at 0.0001",
    )
    smoothing: SmoothingParameters = Field(
        default_factory=SmoothingParameters, description="of the maps; none is published"
    )
    score: Literal["map_maximum", "map_top_mean"] = Field(
        "map_top_mean", description="an image's score; published: map_maximum"
    )
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels in map_top_mean")

    @model_validator(mode="after")
    def _crops_hold_a_patch(self) -> "EfficientAdParameters":
        if self.teacher.cut_size(RECEPTIVE_FIELD) < RECEPTIVE_FIELD:
            raise ValueError(
                f"teacher.dense.crop_size is {self.teacher.dense.crop_size}; a descriptor is of {RECEPTIVE_FIELD} "
                "pixels, and a crop must hold as many"
            )
        return self


class EfficientAdSettings(SystemSettings):
    """Everything that makes a detector by EfficientAD: the block of its parameters."""

    efficient_ad: EfficientAdParameters

    def supports(self, dataset: DatasetParameters) -> bool:
        """Tell whether images are large enough for a patch."""
        return smallest_image(RECEPTIVE_FIELD) <= min(dataset.size)
