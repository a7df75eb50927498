"""What a case leaves: one typed object, the same for all systems."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field

from kdad.experiments.case import Case
from kdad.parameters.strict import StrictModel


class CaseResult(StrictModel):
    """The result of one case, finished or failed."""

    model_config = ConfigDict(allow_inf_nan=True)  # what was measured, and no parameter

    axis: str
    variant: str
    category: str
    seed: int
    system: str
    status: Literal["finished", "failed"]
    error: str | None = Field(None, description="what a failed case died of")
    overrides: dict[str, Any] = Field(default_factory=dict, description="what differs from the run's own settings")
    varied: dict[str, Any] = Field(default_factory=dict, description="its values of what the axis' variants differ in")
    paper: dict[str, float] = Field(default_factory=dict, description="the paper's figures by metric")
    method: str = Field("", description="the map that is shown, or the raw score")
    metrics: dict[str, float | None] = Field(default_factory=dict, description="on test images")
    labels: list[int] = Field(default_factory=list, description="of the test images, in order")
    scores: list[float] = Field(default_factory=list, description="of the test images, in order")
    threshold: float | None = None
    costs: dict[str, float] = Field(default_factory=dict, description="seconds, milliseconds, megabytes, counts")
    training_images: int = 0
    network: str = Field("network", description="what the loss history is of")
    reused: bool = Field(False, description="whether all of it was found done")
    folder: str = Field("", description="detector, heat maps, scores, loss history")
    commit: str | None = Field(None, description="of the code that made it")
    made: str = Field("", description="when it was made, UTC")

    @property
    def finished(self) -> bool:
        """Whether there are metrics."""
        return self.status == "finished"

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Axis, variant, category and seed."""
        return self.axis, self.variant, self.category, self.seed


def failed_case(case: Case, error: str) -> CaseResult:
    """Return the result of a case that failed."""
    return CaseResult(
        **case.head,
        system=case.system,
        status="failed",
        error=error,
        overrides=case.overrides,
        varied=case.varied,
        paper=case.paper,
    )


def histograms_of(result: CaseResult) -> tuple[np.ndarray, np.ndarray] | None:
    """Read what the pixel bootstrap needs of a result's maps; None without masks."""
    path = Path(result.folder) / "histograms.npz"
    if not path.exists():
        return None
    with np.load(path) as found:
        return found["normal"], found["anomalous"]


def history_of(result: CaseResult) -> pd.DataFrame | None:
    """Read a result's loss history; None where nothing was trained epoch by epoch."""
    path = Path(result.folder) / "loss_history.csv"
    return pd.read_csv(path) if path.exists() else None
