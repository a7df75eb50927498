"""A session that finds the pipeline of what it is asked to run."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.pipeline import Pipeline

from kdad.project.command_line import CommandLineError
from kdad.project.configuration import PlanningSession, registered_pipelines

_NODES = ("node_names", "from_nodes", "to_nodes")
_DATA = ("from_inputs", "to_outputs")


class FindingSession(KedroSession):
    """Kedro's session; nodes, namespaces and data sets without a pipeline's name are run in the first that has them.

    Kedro would look in ``__default__`` alone, where what Kedro-Viz copies for other pipelines is not found.
    """

    def run(
        self, pipeline_name: str | None = None, pipeline_names: list[str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Run pipelines, or what `options` name of one."""
        if "_loaded" in vars(self):  # another session of this process may have begun since
            PlanningSession.begin(self._loaded.config_loader)
        named = pipeline_name or pipeline_names
        if not named and any(options.get(name) for name in (*_NODES, *_DATA, "namespaces")):
            pipelines.set_requested(None)
            self.load_context()  # the registry plans with its parameters
            pipeline_names = [find_pipeline(options)]
        return super().run(pipeline_name, pipeline_names, **options)

    def load_context(self) -> KedroContext:
        """Load the session's context, once."""
        return self._loaded

    @cached_property
    def _loaded(self) -> KedroContext:
        return super().load_context()


def find_pipeline(options: dict[str, Iterable[str] | None]) -> str:
    """Return the name of the first pipeline that has all that a run's `options` name; ``__default__`` when none has."""
    registered = registered_pipelines()
    for name in registered:
        try:
            found = registered[name]
        except CommandLineError:
            continue  # a mistake in its parameters is told to who asks for it
        if _has(found, options):
            return name
    return "__default__"


def _has(pipeline: Pipeline, options: dict[str, Iterable[str] | None]) -> bool:
    nodes = {node.name for node in pipeline.nodes}
    spaces = {node.namespace or "" for node in pipeline.nodes}
    wanted = {name for option in _NODES for name in options.get(option) or ()}
    data = {name for option in _DATA for name in options.get(option) or ()}
    boxes = set(options.get("namespaces") or ())
    inside = all(any(f"{space}.".startswith(f"{box}.") for space in spaces) for box in boxes)
    return wanted <= nodes and data <= pipeline.datasets() and inside
