"""What a run reads and is not there is told before anything is computed."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from kdad.datasets.place import file_of
from kdad.project.command_line import CommandLineError, ExitCode


class MissingInputHook:
    """Ends a run with one message for every file that it would read and that is not there."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Look for each file that no node of the pipeline makes; first of all hooks, before a run is opened."""
        if run_params.get("only_missing_outputs"):
            return  # what is read depends on what is there
        lines = [
            f"  '{name}', {file_of(catalog.get(name))}{_made_by(name)}"
            for name in sorted(pipeline.inputs())
            if not name.startswith("params:") and _is_missing(catalog.get(name))
        ]
        if lines:
            message = "these files are read and are not there:\n" + "\n".join(lines)
            raise CommandLineError(message, ExitCode.UNUSABLE_INPUT)


def _is_missing(dataset: Any) -> bool:
    """Say whether a dataset is a file or folder that must be there and is not."""
    is_file = getattr(dataset, "_filepath", None) is not None
    return is_file and not dataset.exists()


def _made_by(name: str) -> str:
    """Say which pipeline makes a data set, where one does."""
    for pipeline, found in pipelines.items():
        if name in found.all_outputs():
            command = "kedro run" if pipeline == "__default__" else f"kedro run --pipelines={pipeline}"
            return f": `{command}` makes it"
    return ""
