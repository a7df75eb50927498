"""The ``tracking:`` block, which says how runs are sent to MLflow, and ``mlflow.yml``, which says where to."""

from typing import Any, Literal

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


class _CreatedExperiment(StrictModel):
    artifact_location: str | None = None
    tags: dict[str, Any] | None = None


class _Experiment(StrictModel):
    name: str | None = None
    create_experiment_kwargs: _CreatedExperiment | None = None
    restore_if_deleted: bool = True


class _Tracking(StrictModel):
    experiment: _Experiment = _Experiment()
    disable_tracking: dict[str, Any] = {}
    run: dict[str, Any] = {}
    params: dict[str, Any] = {}


class _Server(StrictModel):
    mlflow_tracking_uri: str | None = None
    mlflow_registry_uri: str | None = None
    credentials: str | None = None
    request_header_provider: dict[str, Any] = {}


class _Ui(StrictModel):
    host: str = "127.0.0.1"
    port: str | int = "5000"


class MlflowSettings(StrictModel):
    """What ``mlflow.yml`` may hold: the names of kedro-mlflow 2 (`KedroMlflowConfig`), checked without importing it."""

    server: _Server = _Server()
    tracking: _Tracking = _Tracking()
    ui: _Ui = _Ui()
