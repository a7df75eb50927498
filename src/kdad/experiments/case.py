"""A case: a detector's settings on one category with one seed; what it leaves; tidy tables of many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field

from kdad.detectors.parameters import SystemSettings
from kdad.detectors.registry import SYSTEMS
from kdad.parameters.strict import StrictModel
from kdad.storage.provenance import code_digest

if TYPE_CHECKING:
    from kdad.detectors.detector import Detector

#: Costs that tables show beside metrics.
_COSTS = ("train_seconds", "parameters", "flops")
_CASE = ["axis", "variant", "category", "seed"]


@dataclass(frozen=True)
class Case:
    """One variant of a system on one category with one seed: the unit that is trained, scored and measured.

    `settings` are complete; `overrides` say, by dotted names, what differs from the run's own, and `varied` are the
    values here of all that the axis' variants differ in. `paper` has the paper's figures, by metric. `images` names the
    data set where it is not the category's own, but one with contamination, with a part of the training images, or
    united of several categories; then `member` is the one that is measured, as the data set calls it.
    """

    axis: str
    variant: str
    category: str
    seed: int
    system: str
    settings: SystemSettings
    overrides: dict[str, Any]
    varied: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    images: str = ""
    member: str = ""

    @property
    def detector(self) -> "type[Detector]":
        """The system's class."""
        return SYSTEMS[self.system].detector

    @property
    def head(self) -> dict[str, Any]:
        """What a result says of whose it is."""
        return {"axis": self.axis, "variant": self.variant, "category": self.category, "seed": self.seed}

    @property
    def facts(self) -> dict[str, Any]:
        """What a result takes from it: whose it is, how it differs, and the paper's figures."""
        return self.head | {"overrides": self.overrides, "varied": self.varied, "paper": self.paper}

    @property
    def name(self) -> str:
        """Axis, variant, category and seed in one word."""
        return f"{self.axis}.{self.variant}.{self.category}_seed_{self.seed}"

    @property
    def prepared(self) -> str:
        """The name of the images that it is run on."""
        return self.images or self.category


def code_of(system: str) -> str:
    """Return a digest of the code behind a system's results: its own, and that of fitting, mapping and measuring."""
    return code_digest(
        *(SYSTEMS[system].module, "kdad.detectors.evaluation"), *("kdad.metrics.measure", "kdad.features.extraction")
    )


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
    groups: list[str] = Field(default_factory=list, description="of the test images, in order, where there are some")
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
    return CaseResult(**case.facts, system=case.system, status="failed", error=error)


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


def tidy(results: list[CaseResult]) -> pd.DataFrame:
    """Return one row for each metric of each finished case: axis, variant, category, seed, metric, value.

    Costs (train_seconds, parameters, flops) are metrics too; a metric that does not apply has no row.
    """
    rows = [
        [*result.place, metric, float(value)]
        for result in results
        if result.finished
        for metric, value in (result.metrics | {name: result.costs.get(name) for name in _COSTS}).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=[*_CASE, "metric", "value"])


def missing(results: list[CaseResult]) -> pd.DataFrame:
    """Return a row for each case that failed: axis, variant, category, seed, error."""
    rows = [[*result.place, result.error] for result in results if not result.finished]
    return pd.DataFrame(rows, columns=[*_CASE, "error"])


def made_by(results: list[CaseResult]) -> str:
    """Say which commits made the finished results, and when: reused ones may be older than the run that shows them."""
    finished = [result for result in results if result.finished]
    if not finished:
        return "no result"
    commits = sorted({result.commit or "unknown" for result in finished})
    days = sorted({result.made[:10] for result in finished})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}, {when}"


def in_plan_order(cases: Sequence[Case], results: list[CaseResult]) -> list[CaseResult]:
    """Return the result of each case."""
    by_place = {result.place: result for result in results}
    return [by_place[case.axis, case.variant, case.category, case.seed] for case in cases]


#: Told of each case once, in the process that was begun by hand, whichever process runs it: `case_begins(case)`, and
#: `case_ends(case, result)`. What logs cases to MLflow is above this room, and not known to it.
case_listeners: list[Any] = []
