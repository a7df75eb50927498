"""What a run leaves in MLflow."""

import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from kedro.framework.hooks import hook_impl
from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from kdad.detectors.detector import Detector
from kdad.hooks.measurements import history_metrics, log_metrics, metrics_of
from kdad.hooks.run_report import file_of
from kdad.parameters.dataset import DatasetParameters
from kdad.provenance import code_version


class RunLogHook:
    """Adds to kedro-mlflow's run: durations, what each node made, loss histories, metrics, figures, commit, error.

    A catalog entry says in ``metadata: mlflow`` what it is: ``artifact``, ``metrics`` (JSON, its numbers) or
    ``history`` (a table epoch, split, term, value), ``folder``, ``judgements`` (their table), ``tag`` (a text).
    """

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._catalog: Any = None
        self._run_name = ""

    @hook_impl
    def after_catalog_created(self, catalog: Any) -> None:
        """Keep the catalog, whose entries say what they are."""
        self._catalog = catalog

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Name the run after pipeline, data set and category, and tag it with the commit."""
        if mlflow.active_run() is None:
            return
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "mkd"]
        pipeline = "+".join("mkd" if name in (None, "__default__") else name for name in names)
        self._run_name = f"{pipeline} {self._subject(names)}"
        tags = {
            "mlflow.runName": self._run_name,
            "commit": code_version(Path(run_params["project_path"])) or "unknown",
        }
        mlflow.set_tags(tags)

    def _subject(self, names: list[str]) -> str:
        """Say what the run is about: images and source, or, of a kept detector, what it is given."""
        if list(names) in (["inference"], ["calibration"]):
            block = _plain(self._catalog.load(f"params:{names[0]}"))
            return f"{block['images'] or 'held-out scores'} by {block['detector']}"
        dataset, source, seed = (_plain(self._catalog.load(f"params:{name}")) for name in ("dataset", "source", "seed"))
        category = DatasetParameters(**dataset).category_name
        return f"{dataset['name']}/{category} {source['name']} seed {seed}"

    @hook_impl
    def before_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Let a detector that is kept remember its run."""
        if isinstance(data, Detector) and mlflow.active_run() is not None:
            data.record = data.record | {"mlflow_run": mlflow.active_run().info.run_id}

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Name the run of a kept detector that is used."""
        if isinstance(data, Detector) and "folder" in data.record and mlflow.active_run() is not None:
            tags = {"detector": data.record["folder"], "detector_system": data.system}
            mlflow.set_tags(tags | {"detector_run": data.record.get("mlflow_run", "unknown")})

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        """Note the time."""
        self._started[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Any, outputs: dict[str, Any]) -> None:
        """Leave the node's duration and a description of each output."""
        if mlflow.active_run() is None:
            return
        seconds = time.perf_counter() - self._started[node.name]
        mlflow.log_metric(f"seconds.{node.name}", seconds)
        made = {name: _describe(data) for name, data in outputs.items()}
        mlflow.log_dict({"node": node.name, "seconds": round(seconds, 3), "made": made}, f"nodes/{node.name}.json")

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what a catalog entry holds, in the way that its metadata names."""
        dataset = self._catalog.get(dataset_name)
        kind = (getattr(dataset, "metadata", None) or {}).get("mlflow")
        if kind is None or mlflow.active_run() is None:
            return
        run = mlflow.active_run().info.run_id
        if kind == "metrics":
            log_metrics(MlflowClient(), run, metrics_of(data))
        elif kind == "history":
            network = data.attrs.get("network", dataset_name.removesuffix("_loss_history"))
            log_metrics(MlflowClient(), run, history_metrics(data, network))
        elif kind == "tag":
            mlflow.set_tag(dataset_name.rpartition(".")[2], data)
        if isinstance(data, dict) and not data:
            return  # figures of nothing leave no folder
        path = file_of(dataset)
        if kind == "folder":
            mlflow.log_artifacts(str(path), path.name)
        elif kind == "judgements":
            mlflow.log_artifact(str(path / "judgements.csv"))
        else:
            (mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact)(str(path))

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Leave the error in the run, which kedro-mlflow then closes as FAILED."""
        if mlflow.active_run() is not None:
            mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:5000])


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _describe(data: Any) -> str:
    """Say in a few words what an output is."""
    if isinstance(data, pd.DataFrame):
        return f"table of {len(data)} rows: {', '.join(map(str, data.columns))}"
    if hasattr(data, "shape"):
        return f"array {tuple(data.shape)}"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{name}: {_describe(value)}" for name, value in data.items()) + "}"
    return (
        f"{data:.6g}"
        if isinstance(data, float)
        else str(data)[:200]
        if isinstance(data, int | str)
        else type(data).__name__
    )
