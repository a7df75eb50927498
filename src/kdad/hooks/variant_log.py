"""One MLflow child run for each case of a plan, named and tagged so that an axis can be selected and compared."""

from pathlib import Path

from kedro.framework.hooks import hook_impl

from kdad.experiments.case import Case, CaseResult, case_listeners, history_of
from kdad.hooks.run_results import facts_of, headline, loss_series
from kdad.hooks.run_tracking import CurrentRun
from kdad.tracking.fetching import requirements_of
from kdad.tracking.run import TrackedRun

_COSTS = ("train_seconds", "milliseconds_an_image")
_FIGURES = ("heatmaps.png", "scores.csv")
#: Of the parent, which its children have too: a child is found without knowing its parent.
_INHERITED = ("pipeline", "environment", "command", "mlflow.user", "mlflow.source.name", "mlflow.source.type")


class VariantLogHook:
    """Opens a child run as a case begins, and ends it, FINISHED or FAILED, with the case."""

    def __init__(self, current: CurrentRun) -> None:
        self._current = current
        self._children: dict[str, TrackedRun] = {}

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Hear of the cases from now on."""
        self._children.clear()
        if self not in case_listeners:
            case_listeners.append(self)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Hear of no more."""
        if self in case_listeners:
            case_listeners.remove(self)

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Close as FAILED what a run leaves open."""
        self.after_pipeline_run()
        for child in self._children.values():
            child.end("FAILED")
        self._children.clear()

    def case_begins(self, case: Case) -> None:
        """Open the case's child run."""
        parent = self._current.tracked
        if parent is None:
            return
        tags = {name: str(value) for name, value in case.head.items()}
        tags |= {name: value for name, value in parent.begun_with.items() if name in _INHERITED}
        # The variant first: in MLflow's table long names lose their ends.
        name = f"{case.variant} {case.category} seed {case.seed} ({case.axis})"
        child = parent.child(name, tags)
        ends = f"/{case.category}"
        child.inputs([one for one in parent.lines("inputs")[0] if one["dataset"]["name"].endswith(ends)])
        self._children[case.name] = child
        self._current.in_case = True

    def case_ends(self, case: Case, result: CaseResult) -> None:
        """Log the case's result and close its run."""
        child = self._children.pop(case.name, None)
        self._current.in_case = False
        if child is None:
            return
        child.parameters({**case.head, "system": case.system, **case.overrides, **case.varied})
        if result.finished:
            _log_result(child, result, self._current.project / "requirements.lock")
            child.end("FINISHED")
        else:
            child.tags({"error": result.error})
            child.end("FAILED")


def _log_result(child: TrackedRun, result: CaseResult, lock: Path) -> None:
    costs = {name: result.costs[name] for name in _COSTS if name in result.costs}
    child.parameters(facts_of(result.metrics | result.costs))
    paper = {f"{metric}.paper": value for metric, value in result.paper.items()}
    child.metrics(headline(result.metrics | {"threshold": result.threshold}) | costs | paper)
    history = history_of(result)
    if history is not None:
        child.series(loss_series(f"{result.network}.{{split}}.{{term}}", history.to_dict("records")))
    folder = Path(result.folder)
    made = {"reused": result.reused, "method": result.method, "commit": result.commit or "unknown", "made": result.made}
    child.tags({**made, "detector": folder / "detector"})
    child.model(folder / "detector", requirements_of(result.system, lock))
    for name in _FIGURES:
        if (folder / name).exists():
            child.artifact(folder / name)
