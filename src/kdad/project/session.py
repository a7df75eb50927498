"""A session that checks the parameters of what it is asked to run, before a network is imported."""

import logging
from collections.abc import Iterable
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from kdad.detectors.registry import SYSTEMS
from kdad.errors import InputError
from kdad.experiments.plan import PLANNED, bind_settings
from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError, ExitCode, RaiseOnSignal
from kdad.project.configuration import block_model, check_values, wrong_entry

logger = logging.getLogger(__name__)

_MEASURED = ("compute", "measuring", "reporting")
_OF = {name: tuple(system.Settings.model_fields) for name, system in SYSTEMS.items()}
#: The blocks of pipelines that are neither a plan's nor a system's common sum of steps.
_BLOCKS: dict[str, tuple[str, ...]] = {
    "soft_target": ("dataset", *_OF["soft_target"], "compute", "measuring"),
    "inference": ("inference", "compute", "measuring"),
    "watch": ("inference", "compute"),
    "comparison": ("comparison", "compute"),
    "calibration": ("calibration", "compute"),
    "export": ("export", "dataset", "compute"),
    "ingestion": ("dataset", *_OF["mkd"], "teacher", "students", "compute"),
    "features": (*_OF["mkd"], "compute"),
    "cloner": (*_OF["mkd"], "compute"),
    "scoring": ("compute", "measuring"),
    "reporting": ("measuring", "reporting"),
    "teacher": ("dataset", *_OF["uninformed_students"], "compute"),
    "students": ("dataset", *_OF["uninformed_students"], "compute"),
    "ensemble_scoring": ("compute", "measuring"),
    "ensemble_reporting": ("measuring", "reporting"),
}
#: What a run trains that names no pipeline, by its environment; `mkd` elsewhere.
DEFAULTS = {"folder": "committee"}
#: Every pipeline that can be asked for.
KNOWN = ("__default__", *SYSTEMS, *PLANNED, *_BLOCKS)

_NODES = ("node_names", "from_nodes", "to_nodes")
_DATA = ("from_inputs", "to_outputs")


def check_pipelines(names: list[str], parameters: dict[str, Any]) -> list[str]:
    """Return the names of the pipelines that are meant: that of the default, and of a watch where one is asked for.

    Ends the run with one message for a name that is unknown, or for what is wrong in the parameters of these pipelines.
    """
    meant = [_meant(name, parameters) for name in names]
    systems = [name for name in meant if name in SYSTEMS]
    if len(systems) > 1:  # their steps share names
        raise CommandLineError(
            f"{' and '.join(systems)} train a detector each; run one after the other", ExitCode.WRONG_COMMAND
        )
    for name in meant:
        check_values({block: block_model(block) for block in checked_blocks(name)}, parameters)
        _check_groups(checked_blocks(name), parameters)
        try:
            if name in PLANNED:
                PLANNED[name].plan(parameters)
            elif name in SYSTEMS:
                bind_settings(name, parameters, "parameters")
        except InputError as error:
            raise CommandLineError(str(error)) from error
    return meant


def _check_groups(blocks: tuple[str, ...], parameters: dict[str, Any]) -> None:
    """End the run where groups are to be decided on, and none are told."""
    if not {"dataset", "measuring"}.issubset(blocks) or parameters["measuring"].get("group_score") is None:
        return
    if parameters["dataset"].get("groups") is None:
        raise CommandLineError(
            "measuring.group_score decides on groups, and dataset.groups is null; say which images are of one part: "
            "dataset.groups=folder, a column of the list, or a pattern, or leave measuring.group_score out"
        )


def checked_blocks(name: str) -> tuple[str, ...]:
    """Return the parameter blocks of a pipeline; those of systems in a plan are checked as they are planned."""
    if name in PLANNED:
        return (name, "dataset", *_MEASURED, "workers")
    return _BLOCKS.get(name) or ("dataset", *_OF[name], *_MEASURED)


def _meant(name: str, parameters: dict[str, Any]) -> str:
    if name not in KNOWN:
        raise CommandLineError(
            f"there is no pipeline '{name}'{nearest_name(name, list(KNOWN))}", ExitCode.WRONG_COMMAND
        )
    block = parameters.get("inference")
    if name == "inference" and isinstance(block, dict) and block.get("watch"):
        return "watch"
    return "mkd" if name == "__default__" else name


class CheckedSession(KedroSession):
    """Kedro's session; parameters of the pipelines that are asked for are checked first, and of no others.

    Nodes, namespaces and data sets without a pipeline's name are run in the first pipeline that has them: Kedro would
    look in ``__default__`` alone, where what Kedro-Viz copies for other pipelines is not found.
    """

    _context: KedroContext | None = None

    def run(
        self, pipeline_name: str | None = None, pipeline_names: list[str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Run pipelines, or what `options` name of one."""
        names = pipeline_names or ([pipeline_name] if pipeline_name else [])
        if not names and any(options.get(name) for name in (*_NODES, *_DATA, "namespaces")):
            names = [find_pipeline(options)]
        context = self.load_context()
        loader = context.config_loader
        meant = check_pipelines(names or [DEFAULTS.get(context.env or "", "mkd")], loader["parameters"])
        if not names:
            logger.info("no pipeline is named, so %s runs", ", ".join(meant))
        loader["catalog"]  # a mistake in it is said before the pipelines are imported
        try:
            with RaiseOnSignal():  # children, workers and partial folders end in order
                return super().run(pipeline_names=meant, **options)
        except DatasetError as error:
            wrong = wrong_entry(error)
            if wrong is None:
                raise
            raise wrong from error

    def load_context(self) -> KedroContext:
        """Load the session's context, once."""
        if self._context is None:
            self._context = super().load_context()
        return self._context


def find_pipeline(options: dict[str, Iterable[str] | None]) -> str:
    """Return the name of the first pipeline that has all that a run's `options` name; ``__default__`` when none has."""
    return next((name for name, pipeline in pipelines.items() if _has(pipeline, options)), "__default__")


def _has(pipeline: Pipeline, options: dict[str, Iterable[str] | None]) -> bool:
    nodes = {node.name for node in pipeline.nodes}
    spaces = {node.namespace or "" for node in pipeline.nodes}
    wanted = {name for option in _NODES for name in options.get(option) or ()}
    data = {name for option in _DATA for name in options.get(option) or ()}
    boxes = set(options.get("namespaces") or ())
    inside = all(any(f"{space}.".startswith(f"{box}.") for space in spaces) for box in boxes)
    return wanted <= nodes and data <= pipeline.datasets() and inside
