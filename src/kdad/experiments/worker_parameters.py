"""The ``workers:`` block: where the cases of a plan run."""

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


class WorkersParameters(StrictModel):
    """The ``workers:`` block."""

    count: int | None = Field(None, ge=1, description="worker processes of this machine; null or 1: this process")
    threads: int | None = Field(None, ge=1, description="torch's threads in each; null: cores divided by count")
    address: str | None = Field(None, description="a Dask scheduler that is there, such as tcp://head:8786")
    connect_seconds: float = Field(30.0, gt=0, description="how long a scheduler may take to answer")
    patience_seconds: float = Field(300.0, gt=0, description="how long a cluster may be without a worker")

    @property
    def is_this_process(self) -> bool:
        """Whether cases run in this process, one after another."""
        return self.address is None and self.count in (None, 1)

    @model_validator(mode="after")
    def _one_cluster(self) -> "WorkersParameters":
        if self.address is not None and (self.count is not None or self.threads is not None):
            raise ValueError("count and threads are of workers begun here; with address they are the cluster's matter")
        return self
