"""How a run comes to its first node without doing what nobody asked for."""

import gc
from typing import Any

from kedro.framework.hooks import hook_impl

from kdad.project.plugins import MLFLOW_HOOK


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
