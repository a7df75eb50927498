"""The ``tracking:`` block: how runs are sent to MLflow."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


class TrackingParameters(StrictModel):
    """The ``tracking:`` block."""

    enabled: bool = Field(True, description="whether runs are logged at all")
    when_unreachable: Literal["wait", "stop"] = Field(
        "wait",
        description="MLflow does not answer as a run begins: 'wait' keeps records on disk and sends them later, 'stop' "
        "ends the run at once",
    )
    patience: float = Field(10.0, gt=0, le=600, description="seconds without progress that a run's end waits")
    system_metrics: bool = Field(False, description="log the use of processor, memory and disk")
    register_model: str | None = Field(
        None, pattern=r"^\w[\w .-]*$", description="name in the registry of which the detector becomes a new version"
    )
    champion: bool = Field(False, description="move the alias 'champion' of that name to the new version")

    @model_validator(mode="after")
    def _champion_has_a_name(self) -> "TrackingParameters":
        if self.champion and self.register_model is None:
            raise ValueError("champion is asked for without a name; give tracking.register_model")
        return self
