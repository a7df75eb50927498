"""The ``soft_target:`` block: teacher, student, and what is swept."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from kdad.detectors.parameters import SystemSettings
from kdad.parameters.dataset import CLASS_SETS, DatasetParameters
from kdad.parameters.strict import StrictModel

Share = Annotated[float, Field(ge=0, le=1)]


class ClassifierParameters(StrictModel):
    """A convolutional classifier and how long it is trained."""

    widths: list[PositiveInt] = Field(min_length=1, max_length=4, description="channels of each block")
    hidden: int = Field(ge=1, description="units before the logits")
    steps: int = Field(ge=1, description="optimiser steps at the least, whatever the number of images")
    batch_size: int = Field(64, ge=2, description="images a step")
    learning_rate: float = Field(0.002, gt=0, description="of Adam, the highest of one cycle")


class SoftTargetParameters(StrictModel):
    """The ``soft_target:`` block."""

    seeds: list[int] = Field([0, 1, 2], min_length=1, description="of teachers, students and the choice of labels")
    teacher: ClassifierParameters = Field(
        ClassifierParameters(widths=[32, 64], hidden=128, steps=1200), description="the teacher's network and training"
    )
    student: ClassifierParameters = Field(
        ClassifierParameters(widths=[4, 8], hidden=16, steps=400, learning_rate=0.005),
        description="the students' network and training",
    )
    temperature: float = Field(4.0, gt=0, description="T outside the sweep")
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the soft term outside the sweep")
    temperatures: list[PositiveFloat] = Field([1, 2, 4, 8, 16], min_length=1, description="T of the sweep")
    alphas: list[Share] = Field([0.1, 0.5, 0.9], min_length=1, description="alpha of the sweep")
    sweep_labels: int = Field(10, ge=1, description="labelled images a class in the sweep")
    label_counts: list[PositiveInt] = Field(
        [2, 5, 10, 20, 50], min_length=1, description="labelled images a class; all is always there"
    )
    omitted_class: int = Field(3, ge=0, le=9, description="class that the transfer set goes without")

    @model_validator(mode="after")
    def _no_value_twice(self) -> "SoftTargetParameters":
        for name in ("seeds", "temperatures", "alphas", "label_counts"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name} names a value twice: {getattr(self, name)}")
        return self


class SoftTargetSettings(SystemSettings):
    """Everything that makes a detector by disagreement: the block of its parameters."""

    soft_target: SoftTargetParameters

    def supports(self, dataset: DatasetParameters) -> bool:
        """Tell whether the images have classes to distil."""
        return dataset.name in CLASS_SETS
