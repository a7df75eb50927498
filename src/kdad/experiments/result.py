"""What a case leaves: one typed object, the same for all systems, and tidy tables of many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field

from kdad.experiments.case import Case
from kdad.metrics.pixel_values import check_finite, check_shapes
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


#: Costs that tables show beside metrics.
_COSTS = ("train_seconds", "parameters", "flops")
_CASE = ["axis", "variant", "category", "seed"]


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
    return [by_place[case.place] for case in cases]


def pixel_histograms(masks: np.ndarray, maps: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many normal and how many anomalous pixels of each image fall between `edges`, both `(N, edges + 1)`.

    `masks` and `maps` are `(N, H, W)`, masks non-zero where anomalous. Edges are quantiles of all pixels, ascending, so
    AUROC from the bins between them differs from the exact one by at most half the chance that a normal and an
    anomalous pixel share a bin. Raises `InputError` when shapes differ or a value is not finite.
    """
    check_shapes(masks, maps)
    for row, anomaly_map in enumerate(maps):
        check_finite(anomaly_map, row)
    bins, edges = len(edges) + 1, np.unique(edges)
    normal = np.zeros((len(maps), bins), dtype=np.int32)
    anomalous = np.zeros_like(normal)
    for row, (mask, anomaly_map) in enumerate(zip(masks.astype(bool, copy=False), maps, strict=True)):
        binned = np.searchsorted(edges, anomaly_map, side="right")
        anomalous[row] = np.bincount(binned[mask], minlength=bins)
        normal[row] = np.bincount(binned[~mask], minlength=bins)
    return normal, anomalous
