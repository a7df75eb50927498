"""Wiring, and the functions that are nodes: a file a pipeline, or a step that several have."""

from typing import Any

from kedro.pipeline import Node


class BoxedNode(Node):
    """A node that Kedro-Viz draws in a box, its `namespace`; in commands, logs and metrics it has its plain name.

    Kedro's own would be ``fit.mkd_fit_detector``, and another one whenever a node moves to another box.
    """

    @property
    def name(self) -> str:
        """The name, without the namespace."""
        return self.short_name

    def _copy(self, **changed: Any) -> Node:
        copied = super()._copy(**changed)
        copied.__class__ = type(self)  # Kedro copies to a plain node
        return copied


def own(space: str, *names: str) -> dict[str, str]:
    """Return arguments that are the data sets of a system, plan or pipeline by the same names."""
    return {name: f"{space}.{name}" for name in names}


def shared(*names: str) -> dict[str, str]:
    """Return arguments that are data sets of all pipelines."""
    return {name: name for name in names}


def blocks(*names: str) -> dict[str, str]:
    """Return arguments that are parameter blocks."""
    return {name: f"params:{name}" for name in names}


def made(space: str, *names: str) -> list[str]:
    """Return the outputs of these names."""
    return list(own(space, *names).values())
