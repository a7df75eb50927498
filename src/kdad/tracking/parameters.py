"""The ``tracking:`` block: how runs are sent to MLflow."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


class TrackingParameters(StrictModel):
    """The ``tracking:`` block."""

    enabled: bool = Field(True, description="whether runs are logged at all")
    when_unreachable: Literal["wait", "stop"] = Field(
        "wait",
        description="wait: records wait on disk and are sent later; stop: nothing is begun that cannot be logged",
    )
    patience: float = Field(
        10.0, gt=0, le=600, description="seconds without progress that the end of a run waits for MLflow"
    )
    system_metrics: bool = Field(False, description="processor, memory and disk, in MLflow's tab of that name")
    register_model: str | None = Field(
        None,
        pattern=r"^\w[\w .-]*$",
        description="name in MLflow's registry; each run's detector becomes a new version of it",
    )
    champion: bool = Field(False, description="the alias champion of that name moves to the new version")

    @model_validator(mode="after")
    def _champion_has_a_name(self) -> "TrackingParameters":
        if self.champion and self.register_model is None:
            raise ValueError("champion is asked for without a name; give tracking.register_model")
        return self
