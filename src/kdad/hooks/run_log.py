"""What a run leaves in MLflow: results, losses, figures, data, detector, its nodes, and a child run for each case."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from kdad.datasets.place import file_of
from kdad.experiments.case import Case, CaseResult, case_listeners, history_of
from kdad.hooks.run_results import data_inputs, describe_run, facts_of, headline, loss_series
from kdad.hooks.run_tracking import CurrentRun, command_of
from kdad.parameters.dataset import DatasetParameters
from kdad.progress import loss_listeners
from kdad.tracking.fetching import requirements_of
from kdad.tracking.run import TrackedRun

_FIRST = "image_auroc"
_PREDICTOR = ("detectors.predictor", "Predictor")  # a detector, or a file that one was exported to
#: Of a case: what it took, and files.
_COSTS = ("train_seconds", "milliseconds_an_image")
_FIGURES = ("heatmaps.png", "scores.csv")
#: Of the parent, which its children have too: a child is found without knowing its parent.
_INHERITED = ("pipeline", "environment", "command", "mlflow.user", "mlflow.source.name", "mlflow.source.type")


class RunLogHook:
    """Logs what a pipeline saves, in the way that the catalog names.

    A catalog entry says in ``metadata: mlflow`` what it is: ``artifact``, ``metrics`` (JSON, its numbers), ``history``
    (a table epoch, split, term, value), ``methods`` (metrics by method, the first of each), ``model`` (a detector; the
    file of an exported one is a ``folder``), ``folder``, ``predictions`` (their table), ``tag`` (a text).
    """

    def __init__(self, current: CurrentRun) -> None:
        self._current = current
        self._began = time.perf_counter()
        self._command = ""
        self._catalog: Any = None

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: Any) -> None:
        """Note the time, the command, and the catalog, whose entries say what they are."""
        self._began, self._command, self._catalog = time.perf_counter(), command_of(run_params), catalog

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Let a detector that is kept remember its command and its run."""
        if _is(data, *_PREDICTOR):
            data.record = data.record | {"command": self._command}
            if self._current.tracked is not None:
                data.record = data.record | {"mlflow_run": self._current.identity}

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Name the run of a kept detector that is used."""
        run = self._current.tracked
        if _is(data, *_PREDICTOR) and "folder" in data.record and run is not None:
            made = data.record.get("mlflow_run", "unknown")
            run.tags({"detector": data.record["folder"], "detector_system": data.system, "detector_run": made})

    @hook_impl
    def before_node_run(self) -> None:
        """Hear of losses, in whichever process the node runs."""
        if self._log_losses not in loss_listeners:
            loss_listeners.append(self._log_losses)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what a catalog entry holds, in the way that its metadata names."""
        run = self._current.tracked
        if run is None:
            return
        name = dataset_name.rpartition(".")[2]
        if name == "split_table":
            run.inputs(data_inputs(data, DatasetParameters.model_validate(self._current.parameters["dataset"])))
        dataset = self._catalog.get(dataset_name)
        kind = (getattr(dataset, "metadata", None) or {}).get("mlflow")
        if kind == "model" and _is(data, "detectors.detector", "Detector"):
            self._log_model(run, file_of(dataset), data.system)
        elif kind is not None:
            _log(run, "folder" if kind == "model" else kind, name, dataset, data)

    def _log_losses(self, metric: str, rows: list[dict[str, Any]]) -> None:
        run = self._current.tracked
        if run is not None and not self._current.in_case:  # a case's come after its results, with which charts begin
            run.series(loss_series(metric, rows))
            run.mark_begun()

    def _log_model(self, run: TrackedRun, folder: Path, system: str) -> None:
        settings = self._current.settings
        requirements = requirements_of(system, self._current.project / "requirements.lock")
        run.model(folder, requirements, settings.register_model, settings.champion)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self, catalog: Any, pipeline: Any) -> None:
        """Log the nodes' table, the seconds in all, and a description."""
        run = self._current.run
        if run is None or not run.has_begun:
            return
        _log_nodes(run, time.perf_counter() - self._began)
        run.tags({"mlflow.note.content": describe_run(pipeline, catalog)})

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Log what has run."""
        if self._current.run is not None:
            _log_nodes(self._current.run, time.perf_counter() - self._began)


def _is(data: Any, module: str, name: str) -> bool:
    """Tell an object of a class without importing torch, which would hold up every start: where one is, it is there."""
    found = sys.modules.get(f"kdad.{module}")
    return found is not None and isinstance(data, getattr(found, name))


def _log(run: TrackedRun, kind: str, name: str, dataset: Any, data: Any) -> None:
    if kind == "metrics":
        run.metrics(headline(data))
        run.parameters(facts_of(data))
    elif kind == "methods":  # whose other metrics are those of their own runs
        run.metrics({f"{method}.{_FIRST}": found[_FIRST] for method, found in data.items() if _FIRST in found})
    elif kind == "history":
        network = data.attrs.get("network", name.removesuffix("_loss_history"))
        run.series(loss_series(f"{network}.{{split}}.{{term}}", data.to_dict("records")))
    elif kind == "tag":
        run.tags({name: data})
    if isinstance(data, dict) and not data:
        return  # figures of nothing leave no folder
    path = file_of(dataset)
    file = path / "predictions.csv" if kind == "predictions" else path
    run.artifact(file, path.name if kind == "folder" else None)


def _log_nodes(run: TrackedRun, seconds: float) -> None:
    rows = [row for row in run.lines("nodes")[0] if row]
    if rows:
        table = io.StringIO()
        writer = csv.DictWriter(table, ["node", "seconds", "load_seconds", "save_seconds", "made"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        run.text(table.getvalue(), "nodes.csv")
    run.metrics({"seconds_total": round(seconds, 3)})


class VariantLogHook:
    """One child run for each case of a plan, named and tagged so that an axis can be selected and compared.

    It is opened as the case begins, and ends, FINISHED or FAILED, with it.
    """

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
        tags |= {name: value for name, value in parent.head.get("tags", {}).items() if name in _INHERITED}
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
