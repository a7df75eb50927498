"""How a run comes to its first node without doing what nobody asked for."""

import gc
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

from kedro.framework.cli.utils import LazyGroup
from kedro.framework.hooks import hook_impl

# Kedro asks for it at each of the 1,300 parameters of a run, and an absent module is looked for everywhere.
if find_spec("ibis") is None:
    sys.modules.update(ibis=cast(ModuleType, None))

_COMMANDS = "kedro_mlflow.framework.cli.cli"
#: The name by which Kedro finds kedro-mlflow's hook; one of that name that is there already is taken in its place.
MLFLOW_HOOK = "mlflow_hook"


def defer_commands() -> None:
    """Put a module in the place of kedro-mlflow's commands that names them, and imports them when one is called."""
    if _COMMANDS not in sys.modules:
        module = ModuleType(_COMMANDS, "Commands of kedro-mlflow, not imported yet.")
        commands = LazyGroup(
            name="Mlflow",
            help="Commands of MLflow in this project.",
            lazy_subcommands={"mlflow": f"{_COMMANDS}.mlflow_commands"},
        )
        vars(module).update(commands=commands, __getattr__=_import_commands)
        sys.modules[_COMMANDS] = module


def _import_commands(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    del sys.modules[_COMMANDS]
    return getattr(import_module(_COMMANDS), name)


class StartUpHook:
    """Has Kedro check the parameters of the pipeline that runs alone, and lets the garbage collector go on in time."""

    #: Kedro imports a plug-in's hooks, MLflow with them, unless there is a hook of the plug-in's name.
    __name__ = MLFLOW_HOOK

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: Any) -> None:
        """Keep Kedro from building every pipeline for a run of the default one."""
        context._pipelines_to_validate = ["__default__"]

    @hook_impl(trylast=True)
    def before_pipeline_run(self) -> None:
        """Leave out of every collection what is imported, and let the collector go on that `kedro run` has stopped."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
