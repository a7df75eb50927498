"""The ``tracking:`` block: how runs are sent to MLflow."""

from typing import Literal

from pydantic import Field

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
