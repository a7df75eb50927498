"""Cases on the workers of a Dask cluster: one of this machine that ends with them, or one that is there."""

import logging
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdad.compute import usable_cores
from kdad.errors import PLAIN, ClusterError, InputError, first_line
from kdad.experiments.case import Case, CaseResult, failed_case
from kdad.experiments.plan import Plan
from kdad.experiments.run import Caches, CaseReport, CaseSettings, run_one
from kdad.features.cache import open_cache
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.registry import open_image_set
from kdad.images.splits import Split
from kdad.parameters.blocks import WorkersParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore
from kdad.storage.provenance import code_digest

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

#: Of libraries that compute on several threads, as Dask's nannies set them.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: Of a worker's own start and end nothing is said; what matters is said by the run.
_QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
_CLOSING_SECONDS = 5.0
_RESTART_SECONDS = 20.0
_LOOK_SECONDS = 1.0
_REFILL_SECONDS = 5.0
#: As many workers may be lost at a case until it is given up.
_LOSSES = 4
#: A worker may have several threads, and torch's generator, which training seeds, is one for all of them.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Site:
    """Where a run was begun: the folder that relative paths start from, a digest of the code, and a name of the run."""

    folder: str
    code: str
    run: str

    @classmethod
    def here(cls) -> "Site":
        """Return that of this process."""
        return cls(str(Path.cwd()), _code_of_cases(), f"kdad-{uuid.uuid4().hex}")


#: Runs a case in a worker; one of its own in tests.
Task = Callable[[Site], CaseResult]


@dataclass(frozen=True)
class CaseTask:
    """A case with what a worker needs to run it; arrays and image files are read there."""

    case: Case
    dataset: DatasetParameters
    split: pd.DataFrame
    features: dict[str, str]
    settings: CaseSettings
    shares_classes: bool

    def __call__(self, site: Site) -> CaseResult:
        """Run the case."""
        images = _open_images(
            self.dataset.model_dump_json(), self.settings.seed, self.settings.stores.features, site.run
        )
        caches = {name: open_cache(Path(folder)) for name, folder in self.features.items()}
        feature_set = FeatureSet(images, Split(self.split), caches)
        return run_one(self.case, feature_set, self.settings, self.shares_classes)


@lru_cache(maxsize=2)
def _open_images(dataset: str, seed: int, store: Path, run: str) -> ImageSet:
    """Open an image set, once a category in each run."""
    return open_image_set(DatasetParameters.model_validate_json(dataset), seed, ContentStore(store))


def run_on_workers(
    plans: Sequence[Plan],
    categories: dict[str, FeatureSet],
    caches: Caches,
    settings: CaseSettings,
    workers: WorkersParameters,
) -> list[CaseResult]:
    """Run the cases of `plans` on workers; a case whose worker is killed begins again on another.

    What a case logs is told here, once. Raises `ClusterError` when the cluster cannot be used any longer.
    """
    tasks = [
        CaseTask(
            case,
            plan.datasets[case.prepared],
            categories[case.prepared].split.table,
            {name: str(found.folder.resolve()) for name, found in caches[case.prepared, case.system].items()},
            settings,
            plan.shares_classes,
        )
        for plan in plans
        for case in plan.cases
    ]
    # One category after another, so that a worker opens its images once.
    tasks.sort(key=lambda task: list(categories).index(task.case.prepared))
    with open_cluster(workers, len(tasks)) as cluster:
        results = run_tasks([(task.case, task) for task in tasks], cluster, workers.patience_seconds)
    return [results[case.name] for plan in plans for case in plan.cases]


@dataclass
class Cluster:
    """A client, and how workers are begun anew that Dask has given up, as one that was killed while it started."""

    client: "Client"
    refill: Callable[[], Any] = lambda: None
    sent: "dict[Future, tuple[Case, Task]]" = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """How many workers there are; 0 while the scheduler does not answer."""
        if self.client.status != "running":
            return 0
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


def check_scheduler(workers: WorkersParameters) -> None:
    """Raise `ClusterError` when a scheduler that is named does not answer, before anything is computed."""
    if workers.address is not None:
        _connect(workers.address, workers.connect_seconds).close()


@contextmanager
def open_cluster(workers: WorkersParameters, most: int) -> Iterator[Cluster]:
    """Connect to the scheduler that is named, or begin workers of this machine, not more than `most`.

    On the way out tasks that are not finished are ended.
    """
    if workers.address is not None:
        cluster = Cluster(_connect(workers.address, workers.connect_seconds))
        logger.info("Dask cluster at %s: %s", workers.address, _counted(cluster.workers, "worker"))
        try:
            yield cluster
        finally:
            _leave(cluster)
        return
    local = _start(min(workers.count or 1, most), workers.threads)
    client = _distributed().Client(local, set_as_default=False)
    try:
        yield Cluster(client, lambda: local.scale(min(workers.count or 1, most)))
    finally:
        _close(client, local)


def run_tasks(tasks: Sequence[tuple[Case, Task]], cluster: Cluster, patience: float) -> dict[str, CaseResult]:
    """Run tasks, as many at a time as there are workers, and return their results by the cases' names.

    Dask begins a task again whose worker is lost, and counts it against every task that the worker had. So the others
    wait here, and a task that Dask gives up is sent anew until workers have begun it four times. Raises `ClusterError`
    when the scheduler is gone, or there is no worker for `patience` seconds.
    """
    site, report, ended = Site.here(), CaseReport(len(tasks)), threading.Event()
    begun: Counter[str] = Counter()
    waiting, results = deque(tasks), {}
    cluster.client.subscribe_topic(site.run, lambda event: _note_begin(begun, event[1]))
    health = _Health(cluster, patience)
    while waiting or cluster.sent:
        while waiting and len(cluster.sent) < max(health.workers, 1):
            case, task = waiting.popleft()
            report.begin(case)
            key = f"{case.name}-{uuid.uuid4().hex}"
            future = cluster.client.submit(_work, task, site, case.name, key=key, pure=False)
            future.add_done_callback(lambda _: ended.set())
            cluster.sent[future] = case, task
        ended.wait(_LOOK_SECONDS)
        ended.clear()
        for future in [future for future in cluster.sent if future.done()]:
            case, task = cluster.sent.pop(future)
            result = _result_of(case, future, begun[case.name])
            if result is None:
                waiting.append((case, task))
                continue
            results[case.name] = result
            report.end(case, result)
        health.look()
    return results


def _work(task: Task, site: Site, name: str) -> CaseResult:
    """Run a task in a worker, and let the run know that it is begun."""
    from distributed import get_worker

    with _ONE_AT_A_TIME:
        _settle(site)
        get_worker().log_event(site.run, name)
        return task(site)


def _note_begin(begun: Counter[str], name: str) -> None:
    begun[name] += 1
    if begun[name] > 1:
        logger.warning("%s begins again, as its worker was lost", name, extra=PLAIN)


def _result_of(case: Case, future: "Future", begun: int) -> CaseResult | None:
    """Return what a worker has made, or that the case was given up; None for one that is to be sent anew."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        if begun < _LOSSES:
            return None
        reason = f"{_LOSSES} workers or more were lost at it, the last one {error.last_worker.address}"
        logger.error("%s failed: %s", case.name, reason, extra=PLAIN)
        return failed_case(case, f"lost: {reason}")
    except CancelledError as error:
        raise _lost(f"it no longer knows {case.name}") from error


class _Health:
    """Looks after the workers of a cluster: how many there are, and whether it is time to give up waiting for one."""

    def __init__(self, cluster: Cluster, patience: float) -> None:
        self._cluster, self._patience = cluster, patience
        self._seen = self._refilled = time.monotonic()
        self.workers = cluster.workers

    def look(self) -> None:
        """Count the workers, and begin anew those that are missing; raises `ClusterError` when there will be none."""
        now, client = time.monotonic(), self._cluster.client
        if client.status in ("closed", "closing"):
            raise _lost("the connection to its scheduler is lost")
        self.workers = self._cluster.workers
        if self.workers:
            self._seen = now
        elif now - self._seen > self._patience:
            raise _lost(f"it has had no worker for {self._patience:g} s (workers.patience_seconds)")
        if client.status == "running" and now - self._refilled > _REFILL_SECONDS:
            self._refilled = now
            self._cluster.refill()


@cache
def _settle(site: Site) -> None:
    """Go to the run's folder, once a run; raises `InputError` where this host lacks it, or has other code."""
    host = os.uname().nodename if hasattr(os, "uname") else "this worker's host"
    if not Path(site.folder).is_dir():
        raise InputError(
            f"the worker on {host} has no folder '{site.folder}'; workers need the run's folder at the same path, on a "
            "disk that all hosts share"
        )
    if site.code != _code_of_cases():
        raise InputError(
            f"the worker on {host} has other code of kdad than this run; install the same version there, and start "
            "the worker again"
        )
    os.chdir(site.folder)


def _code_of_cases() -> str:
    return code_digest("kdad.experiments.run", "kdad.detectors.registry")


def _connect(address: str, seconds: float) -> "Client":
    try:
        return _distributed().Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at '{address}' within {seconds:g} s ({first_line(error)}); start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
        ) from error


def _start(count: int, threads: int | None) -> Any:
    """Begin workers on this machine; each has the threads that it is given and no more, or they would fight for cores.

    Raises `ClusterError` when they do not start.
    """
    distributed = _distributed()
    import dask

    share = threads or max(1, usable_cores() // count)
    environment = dict.fromkeys(_THREADS, str(share)) | _QUIET
    try:
        # In place of Dask's own, which lets malloc give back all memory at once: training is then half as fast.
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            local = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                env=environment,  # goes before what this process was given
                memory_limit=0,  # Dask would kill a worker for what its arrays on disk seem to take
                dashboard_address="127.0.0.1:0",  # any free port
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, OSError) as error:
        raise ClusterError(
            f"{_counted(count, 'worker')} could not be started here ({first_line(error)}); is there memory for them? "
            "Take fewer: workers.count"
        ) from error
    logger.info("Dask cluster of this machine: %s of %s", _counted(count, "worker"), _counted(share, "thread"))
    return local


def _leave(cluster: Cluster) -> None:
    """Leave a cluster that others may use; workers that are at unfinished tasks of this run begin anew."""
    client = cluster.client
    try:
        own = {future.key for future in cluster.sent} if client.status == "running" else set()
        busy = [worker for worker, keys in client.processing().items() if own & set(keys)] if own else []
        if own:
            client.cancel(list(cluster.sent), force=True)
        if busy:
            client.restart_workers(busy, timeout=_RESTART_SECONDS, raise_for_error=False)
    except Exception as error:  # a scheduler that is gone, workers without a nanny: they end with their case
        logger.warning("workers could not be stopped (%s); they end with what they are at", first_line(error))
    _close(client)


def _close(*parts: Any) -> None:
    """Close a client and the cluster that is its own; one that takes too long costs no result that is there."""
    for part in parts:
        try:
            part.close(timeout=_CLOSING_SECONDS)
        except TimeoutError:  # the machine is busy
            logger.warning(
                "the Dask cluster did not close within %g s; its processes end with this one", _CLOSING_SECONDS
            )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ClusterError("workers need dask.distributed; install it with `pip install 'kdad[dask]'`") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # set by its import; what matters is said here
    return distributed


def _lost(why: str) -> ClusterError:
    return ClusterError(
        f"the Dask cluster cannot be used any longer: {why}. The same command again takes what is finished and goes on"
    )
