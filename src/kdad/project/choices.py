"""What of a pipeline the command line can choose, and one message for a choice that there is not."""

from typing import Any

from kedro.pipeline import Pipeline

from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError, ExitCode

_RUNNERS = ("SequentialRunner", "ParallelRunner", "ThreadRunner")
#: What each option of `kedro run` names.
_OPTIONS = {
    "node_names": ("--nodes", "node"),
    "from_nodes": ("--from-nodes", "node"),
    "to_nodes": ("--to-nodes", "node"),
    "tags": ("--tags", "tag"),
    "namespaces": ("--namespaces", "namespace"),
    "from_inputs": ("--from-inputs", "data set"),
    "to_outputs": ("--to-outputs", "data set"),
}


def check_runner(name: str | None) -> None:
    """End the command for a runner that is neither Kedro's nor named with its module."""
    if name and "." not in name and name not in _RUNNERS:
        raise _wrong(f"--runner: there is no runner '{name}'{nearest_name(name, list(_RUNNERS))}")


def check_choices(pipeline: Pipeline, options: dict[str, Any]) -> None:
    """End the command for a node, tag, namespace or data set that `pipeline` does not have, naming the nearest.

    `options` are those of `kedro run`.
    """
    known = names_of(pipeline)
    lines = [
        f"{flag}: there is no {kind} '{name}'{nearest_name(name, sorted(known[kind]))}"
        for option, (flag, kind) in _OPTIONS.items()
        for name in options.get(option) or ()
        if name not in known[kind]
    ]
    if lines:
        raise _wrong("\n".join(lines))


def check_some_node(options: dict[str, Any], error: ValueError) -> None:
    """End the command when Kedro's `error` is that choices which there are leave no node together."""
    if "contains no nodes after applying" in str(error):
        said = " ".join(
            f"{flag}={','.join(options[name])}" for name, (flag, _) in _OPTIONS.items() if options.get(name)
        )
        raise _wrong(f"no node of the pipeline has all of {said}; leave something out") from error


def names_of(pipeline: Pipeline) -> dict[str, set[str]]:
    """Return the names of nodes, tags, namespaces (at every depth) and data sets, parameters left out."""
    parts = [node.namespace.split(".") for node in pipeline.nodes if node.namespace]
    return {
        "node": {node.name for node in pipeline.nodes},
        "tag": {tag for node in pipeline.nodes for tag in node.tags},
        "namespace": {".".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1)},
        "data set": {name for name in pipeline.datasets() if not name.startswith("params:")},
    }


def _wrong(message: str) -> CommandLineError:
    return CommandLineError(message, ExitCode.WRONG_COMMAND)
