"""What a run leaves in MLflow, and how it ends on the console."""

import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from kedro.framework.hooks import hook_impl
from mlflow.tracking import MlflowClient
from rich.console import Console

from kdad.hooks.measurements import history_metrics, log_metrics, metrics_of
from kdad.parameters.dataset import DatasetParameters
from kdad.provenance import code_version
from kdad.reporting.metrics_table import console_table, places_text


class RunLogHook:
    """Adds to kedro-mlflow's run: durations, what each node made, loss histories, metrics, figures, commit, error.

    A catalog entry says in ``metadata: mlflow`` what it is: ``artifact``, ``metrics`` (JSON, its numbers) or
    ``history`` (a table epoch, split, term, value).
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
        dataset, source, seed = (self._catalog.load(f"params:{name}") for name in ("dataset", "source", "seed"))
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "mkd"]
        pipeline = "+".join("mkd" if name in (None, "__default__") else name for name in names)
        category = DatasetParameters(**dataset).category_name
        self._run_name = f"{pipeline} {dataset['name']}/{category} {source['name']} seed {seed}"
        tags = {
            "mlflow.runName": self._run_name,
            "commit": code_version(Path(run_params["project_path"])) or "unknown",
        }
        mlflow.set_tags(tags)

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
            log_metrics(MlflowClient(), run, history_metrics(data, dataset_name.removesuffix("_loss_history")))
        if isinstance(data, dict) and not data:
            return  # figures of nothing leave no folder
        path = _file_of(dataset)
        (mlflow.log_artifacts if Path(path).is_dir() else mlflow.log_artifact)(path)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End with a short table, and say where the heat-map sheet and the run are."""
        found = [name for name in pipeline.all_outputs() if name.rsplit(".", 1)[-1] == "metrics"]
        if not found:
            return
        (metrics,) = found
        run = mlflow.active_run()
        place = f"{self._run_name} ({run.info.run_id}); `make mlflow` opens the UI" if run else "not logged"
        sheet = Path(_file_of(catalog.get(metrics.removesuffix("metrics") + "heatmap_sheet")))
        console = Console()
        console.print(console_table(catalog.load(metrics)))
        console.print(places_text(_from_here(sheet), place), soft_wrap=True, highlight=False)

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Leave the error in the run, which kedro-mlflow then closes as FAILED."""
        if mlflow.active_run() is not None:
            mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:5000])


def _file_of(dataset: Any) -> str:
    return str(dataset._filepath)


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


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
