"""One MLflow child run for each case of an ablation, named and tagged so that an axis can be selected and compared."""

import time
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl
from mlflow.entities import Param, RunTag
from mlflow.tracking import MlflowClient

from kdad.comparison.result import CaseResult, history_of
from kdad.hooks.measurements import history_metrics, log_metrics, metrics_of

_LAST_NODE = "run_case"
_COSTS = ("train_seconds", "parameters", "flops", "milliseconds_an_image", "kept_megabytes")
_FIGURES = ("heatmaps.png", "scores.csv")


class VariantLogHook:
    """Opens a child run at a case's first node and closes it, FINISHED or FAILED, at its last.

    It speaks to MLflow's client and makes no child the active run, so that kedro-mlflow keeps logging to the parent.
    """

    def __init__(self) -> None:
        self._children: dict[str, str] = {}

    @hook_impl(trylast=True)
    def before_node_run(self, node: Any) -> None:
        """Open the case's child run, once."""
        parent = mlflow.active_run()
        if "variant" not in node.tags or parent is None or node.namespace in self._children:
            return
        axis, variant, case = node.namespace.split(".")
        category, seed = case.rsplit("_seed_", 1)
        tags = {
            "mlflow.parentRunId": parent.info.run_id,
            "axis": axis,
            "variant": variant,
            "category": category,
            "seed": seed,
        }
        name = f"{axis} {variant} {category} seed {seed}"
        run = MlflowClient().create_run(parent.info.experiment_id, int(time.time() * 1000), tags, name)
        self._children[node.namespace] = run.info.run_id

    @hook_impl
    def after_node_run(self, node: Any, outputs: dict[str, Any]) -> None:
        """Log the result of the case's last node and close its run."""
        run_id = self._children.get(node.namespace or "")
        if run_id is None or not node.name.endswith(_LAST_NODE):
            return
        (result,) = outputs.values()
        client = MlflowClient()
        head = {"axis": result.axis, "variant": result.variant, "seed": str(result.seed), "system": result.system}
        parameters = [Param(name, value) for name, value in head.items()]
        parameters += [Param(name, str(value)[:500]) for name, value in result.overrides.items()]
        client.log_batch(run_id, params=parameters)
        if result.finished:
            self._log_result(client, run_id, result)
            client.set_terminated(run_id, "FINISHED")
        else:
            client.log_batch(run_id, tags=[RunTag("error", result.error[:5000])])
            client.set_terminated(run_id, "FAILED")
        del self._children[node.namespace]

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Close as FAILED what a run leaves open."""
        for run_id in self._children.values():
            MlflowClient().set_terminated(run_id, "FAILED")
        self._children.clear()

    @staticmethod
    def _log_result(client: MlflowClient, run_id: str, result: CaseResult) -> None:
        costs = {name: result.costs[name] for name in _COSTS if name in result.costs}
        measured = metrics_of(result.metrics | costs | {"threshold": result.threshold})
        history = history_of(result)
        if history is not None:
            measured += history_metrics(history, result.network)
        log_metrics(client, run_id, measured)
        said = {
            "reused": str(result.reused),
            "method": result.method,
            "commit": result.commit or "unknown",
            "made": result.made,
            "detector": str(Path(result.folder) / "detector"),
        }
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in said.items()])
        for name in _FIGURES:
            if (Path(result.folder) / name).exists():
                client.log_artifact(run_id, str(Path(result.folder) / name))
