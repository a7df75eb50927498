"""`kedro run --runner=kdad.runner.DaskRunner`: categories and cases on workers, the rest where the run was begun."""

import inspect
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline
from kedro.runner.runner import AbstractRunner

from kdad.parameters.strict import nearest_name
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.runner.cluster import Cluster, connect, start_workers
from kdad.runner.executor import ClusterExecutor
from kdad.runner.work import Site, code_of_work


class DaskRunner(AbstractRunner):
    """Kedro's runner whose nodes with the tag ``worker`` run on a Dask cluster, one at a time in each worker process.

    `address` names a scheduler; without one a cluster of `workers` processes of `threads` threads each is begun on this
    machine, and ends with the run. Hooks run here, so that MLflow is written by this process alone: a worker that is
    killed loses nothing, and a case that begins again is one child run. `connect_seconds` is how long a scheduler may
    take to answer, `patience_seconds` how long a cluster may be without any worker.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        threads: int | None = None,
        connect_seconds: float = 30.0,
        patience_seconds: float = 300.0,
        is_async: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(is_async=is_async)
        if unknown:
            name, known = next(iter(unknown)), list(inspect.signature(DaskRunner).parameters)[:-1]
            raise _wrong(f"there is no '{name}'{nearest_name(name, known)}")
        _check(int, workers=workers, threads=threads)
        _check(float, connect_seconds=connect_seconds, patience_seconds=patience_seconds)
        if address is not None and (workers is not None or threads is not None):
            raise _wrong("workers and threads are of a cluster of its own; with address they are the cluster's matter")
        self._address, self._workers, self._threads = address, workers, threads
        self._connect_seconds, self._patience_seconds = float(connect_seconds), float(patience_seconds)

    def _run(self, *arguments: Any, **named: Any) -> None:
        """Run the pipeline by Kedro's own loop."""
        super()._run(*arguments, **named)

    def _get_executor(self, max_workers: int) -> Executor:
        site = Site(str(Path.cwd()), code_of_work())
        return ClusterExecutor(self._open(max_workers), site, self._patience_seconds)

    def _open(self, most: int) -> Cluster:
        if self._address is not None:
            return connect(self._address, self._connect_seconds)
        return start_workers(self._workers, self._threads, most)

    def _get_required_workers_count(self, pipeline: Pipeline) -> int:
        """Return how many nodes could run at once at the most."""
        return max((len(group) for group in pipeline.grouped_nodes), default=1)


def _check(kind: type, **numbers: Any) -> None:
    kinds, said = (int, "whole number") if kind is int else (int | float, "number")
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or value <= 0):
            raise _wrong(f"{name} is '{value}', and has to be a {said} above 0")


def _wrong(message: str) -> CommandLineError:
    return CommandLineError(f"--runner-params: {message}", ExitCode.WRONG_COMMAND)
