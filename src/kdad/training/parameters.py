"""How a network is trained, whichever it is."""

from typing import Literal

from pydantic import Field

from kdad.parameters.strict import StrictModel


class TrainingParameters(StrictModel):
    """How a network is trained."""

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images a step")
    learning_rate: float = Field(3e-3, gt=0, description="the optimiser's rate; the peak of the one-cycle schedule")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="what steps")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="of sgd, adam's first beta; one_cycle moves it from 0.95 to 0.85 and back instead"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    schedule: Literal["one_cycle", "constant"] = Field("one_cycle", description="learning-rate schedule")
    checkpoint_every: int = Field(10, ge=1, description="epochs between checkpoints")
