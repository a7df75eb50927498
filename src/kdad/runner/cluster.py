"""A Dask cluster to run on: one that is there, or one of this machine's own that ends with the run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdad.compute import usable_cores
from kdad.errors import first_line
from kdad.project.command_line import CommandLineError, ExitCode

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

_MISSING = "--runner: DaskRunner needs dask.distributed; install it with `pip install 'kdad[dask]'`"
#: Of libraries that compute on several threads, as Dask's nannies set them.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: Of a worker's own start and end nothing is said; what matters is said by the run.
_QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
_CLOSING_SECONDS = 5.0
_RESTART_SECONDS = 20.0


@dataclass(frozen=True)
class Cluster:
    """A client, and how it leaves its cluster: `close` takes the tasks that are not finished, and ends them.

    `refill` begins the workers anew that Dask has given up, one that was killed while it started; of a cluster of
    others that is their matter.
    """

    client: "Client"
    close: Callable[[list[Any]], None]
    refill: Callable[[], None] = lambda: None

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


def connect(address: str, seconds: float) -> Cluster:
    """Connect to a scheduler; raises `CommandLineError` when none answers."""
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CommandLineError(
            f"no Dask scheduler answers at '{address}' within {seconds:g} s ({first_line(error)}); start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`",
            ExitCode.NO_CLUSTER,
        ) from error
    cluster = Cluster(client, lambda unfinished: _leave(client, unfinished))
    logger.info("Dask cluster at %s: %s", address, _counted(cluster.workers, "worker"))
    return cluster


def start_workers(workers: int | None, threads: int | None, most: int) -> Cluster:
    """Begin workers on this machine, as many as it has cores divided by `threads`, and not more than `most`.

    Each has the threads that it is given and no more, so that they do not fight for cores.
    """
    distributed = _distributed()
    cores = usable_cores()
    wanted = workers or min(max(1, cores // (threads or 1)), most)
    share = threads or max(1, cores // wanted)
    import dask

    environment = dict.fromkeys(_THREADS, str(share)) | _QUIET
    try:
        # In place of Dask's own, which lets malloc give back all memory at once: training is then half as fast.
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            local = distributed.LocalCluster(
                n_workers=int(wanted),
                threads_per_worker=1,
                env=environment,  # goes before what this process was given
                memory_limit=0,  # Dask would kill a worker for what its arrays on disk seem to take
                dashboard_address="127.0.0.1:0",  # any free port
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, OSError) as error:
        raise CommandLineError(
            f"{_counted(wanted, 'worker')} could not be started here ({first_line(error)}); is there memory for them? "
            "Take fewer: --runner-params=workers=1",
            ExitCode.NO_CLUSTER,
        ) from error
    client = distributed.Client(local, set_as_default=False)

    def close(unfinished: list[Any]) -> None:
        client.close(timeout=_CLOSING_SECONDS)
        local.close(timeout=_CLOSING_SECONDS)

    logger.info("Dask cluster of this machine: %s of %s", _counted(wanted, "worker"), _counted(share, "thread"))
    return Cluster(client, close, lambda: local.scale(int(wanted)))


def _leave(client: "Client", unfinished: list[Any]) -> None:
    """Leave a cluster that others may use; workers that are at unfinished tasks of this run begin anew."""
    try:
        own = {task.key for task in unfinished}
        busy = [worker for worker, keys in client.processing().items() if own & set(keys)] if own else []
        client.cancel(unfinished, force=True)
        if busy:
            client.restart_workers(busy, timeout=_RESTART_SECONDS, raise_for_error=False)
    except Exception as error:  # a scheduler that is gone, workers without a nanny: they end with their case
        logger.warning("workers could not be stopped (%s); they end with what they are at", first_line(error))
    client.close(timeout=_CLOSING_SECONDS)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise CommandLineError(_MISSING, ExitCode.WRONG_COMMAND) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # set by its import; what matters is said here
    return distributed
