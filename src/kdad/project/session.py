"""A session that checks the parameters of what it is asked to run, before a network is imported."""

from collections.abc import Iterable
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.pipeline import Pipeline

from kdad.project.asked import check_pipelines

_NODES = ("node_names", "from_nodes", "to_nodes")
_DATA = ("from_inputs", "to_outputs")


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
        parameters = self.load_context().config_loader["parameters"]
        return super().run(pipeline_names=check_pipelines(names or ["__default__"], parameters), **options)

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
