"""kedro-mlflow's hook, with parameters that are bound to models already."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel


class ParameterLogHook(MlflowHook):
    """Logs a node's parameters flat, by dotted names, whether they are dictionaries or models."""

    @hook_impl
    def before_node_run(self, node: Any, catalog: Any, inputs: dict[str, Any], is_async: bool) -> None:
        """Hand the parameters on as plain dictionaries."""
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
            if name.startswith("params:")
        }
        super().before_node_run(node, catalog, plain, is_async)
