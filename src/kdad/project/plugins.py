"""Plug-ins of Kedro that are imported when they are used, and not at every start.

Kedro imports the commands and hooks of all plug-ins whenever it starts. Those of kedro-mlflow import MLflow, which
takes seconds; its hooks are not used here, and its commands are seldom called.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from kedro.framework.cli.utils import LazyGroup

_COMMANDS = "kedro_mlflow.framework.cli.cli"
#: The name by which Kedro finds kedro-mlflow's hook; one of that name that is there already is taken in its place.
MLFLOW_HOOK = "mlflow_hook"


def defer_commands() -> None:
    """Put a module in the place of kedro-mlflow's commands that names them, and imports them when one is called."""
    if _COMMANDS not in sys.modules:
        module = ModuleType(_COMMANDS, "Commands of kedro-mlflow, not imported yet.")
        module.commands = LazyGroup(  # type: ignore[attr-defined]
            name="Mlflow",
            help="Commands of MLflow in this project.",
            lazy_subcommands={"mlflow": f"{_COMMANDS}.mlflow_commands"},
        )
        module.__getattr__ = _import_commands  # type: ignore[method-assign]
        sys.modules[_COMMANDS] = module


def _import_commands(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    del sys.modules[_COMMANDS]
    return getattr(import_module(_COMMANDS), name)
