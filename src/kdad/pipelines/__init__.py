"""Wiring, and the functions that are nodes: a file a pipeline, or a step that several have."""


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
