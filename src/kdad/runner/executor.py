"""Kedro's tasks on a cluster: what a worker may run is sent there, the rest runs here, and so do all hooks."""

import itertools
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedro.runner.task import Task

from kdad.logs import PLAIN
from kdad.pipelines.comparison.cases import WORKER
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.runner.cluster import Cluster
from kdad.runner.work import Site, catalog_of, run_node

if TYPE_CHECKING:
    from distributed import Future as RemoteFuture

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_REFILL_LOOKS = 5
#: As many workers may be lost at a case until it is given up.
_LOSSES = 4


@dataclass
class _Sent:
    """A task that a worker has, or that waits for one, how often one has begun it, and how often Dask gave it up."""

    task: Task
    future: Future
    remote: Any = None
    begun: int = 0
    given_up: int = 0


class ClusterExecutor(Executor):
    """Takes Kedro's tasks. A cluster that is gone, or without workers for `patience` seconds, ends all of them.

    Dask begins a task again whose worker is lost, and counts it against every task that the worker had; so it is given
    one task a worker, the others wait here, and what was begun fewer than four times is sent anew. A node of a function
    with `give_up`, which takes the error and returns its output, is given up after that, and does not end the run.
    """

    def __init__(self, cluster: Cluster, site: Site, patience: float) -> None:
        self._cluster, self._site, self._patience = cluster, site, patience
        self._sent: dict[str, _Sent] = {}
        self._waiting: deque[str] = deque()
        self._at_work: set[str] = set()
        self._room, self._sending = cluster.workers, threading.Lock()
        self._hooks = ThreadPoolExecutor(1, thread_name_prefix="kdad hooks")  # in order, and none at the same time
        self._topic = f"kdad-{uuid.uuid4().hex}"
        self._over = threading.Event()
        cluster.client.subscribe_topic(self._topic, self._heard)
        threading.Thread(target=self._watch, name="kdad cluster", daemon=True).start()

    def submit(self, task: Task, /, *arguments: Any, **named: Any) -> Future:
        """Send a task to a worker, or run it here and now."""
        if WORKER in task.node.tags:
            return self._send(task)
        future: Future = Future()
        try:
            future.set_result(task.execute())
        except Exception as error:
            future.set_exception(error)
        return future

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self._over.set()
        self._hooks.shutdown(wait=True)
        self._cluster.close([sent.remote for sent in self._sent.values() if sent.remote is not None])
        self._sent.clear()

    def _send(self, task: Task) -> Future:
        sent = _Sent(task, Future())
        self._queue(sent)
        return sent.future

    def _queue(self, sent: _Sent) -> None:
        key = f"{sent.task.node.name}-{uuid.uuid4().hex[:8]}"
        self._sent[key] = sent
        self._waiting.append(key)
        self._fill()

    def _fill(self) -> None:
        """Send as many tasks as there are workers without one; without workers, one that waits there."""
        with self._sending:
            while self._waiting and len(self._at_work) < max(self._room, 1) and not self._over.is_set():
                key = self._waiting.popleft()
                self._at_work.add(key)
                sent = self._sent[key]
                node, catalog = sent.task.node, catalog_of(sent.task.node, sent.task.catalog)
                work = _Work(self._topic, key)
                sent.remote = self._cluster.client.submit(work, node, catalog, self._site, key=key, pure=False)
                sent.remote.add_done_callback(lambda remote, key=key: self._ended(key, remote))

    def _ended(self, key: str, remote: "RemoteFuture") -> None:
        with self._sending:
            self._at_work.discard(key)
        self._fill()
        self._tell(self._end, key, remote)

    def _heard(self, event: tuple[float, str]) -> None:
        self._tell(self._begin, event[1])

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        if not self._over.is_set():
            self._hooks.submit(what, *arguments)

    def _begin(self, key: str) -> None:
        """Let the hooks know that a worker has begun a node; one that begins it again is no news to them."""
        sent = self._sent.get(key)
        if sent is None:
            return
        sent.begun += 1
        if sent.begun > 1:
            logger.warning("%s begins again, as its worker was lost", sent.task.node.name, extra=PLAIN)
            return
        task = sent.task
        self._guard(
            sent,
            lambda: task.hook_manager.hook.before_node_run(
                node=task.node, catalog=task.catalog, inputs={}, is_async=False, run_id=task.run_id
            ),
        )

    def _end(self, key: str, remote: "RemoteFuture") -> None:
        """Take over what a worker has made, or why it failed."""
        sent = self._sent.get(key)
        if sent is None or sent.future.done():
            return
        if not sent.begun:
            self._begin(key)
        self._sent.pop(key, None)
        if _was_lost(remote) and max(sent.begun, sent.given_up + 1) < _LOSSES:
            sent.given_up += 1
            self._queue(sent)  # Dask also counts workers that had it in their queue
            return
        self._guard(sent, lambda: self._take(sent, remote))
        if not sent.future.done():
            sent.future.set_result(sent.task.node)

    def _take(self, sent: _Sent, remote: "RemoteFuture") -> None:
        task, node = sent.task, sent.task.node
        hook, catalog = task.hook_manager.hook, task.catalog
        try:
            kept = self._result_of(sent, remote)
        except Exception as error:
            hook.on_node_error(error=error, node=node, catalog=catalog, inputs={}, is_async=False, run_id=task.run_id)
            raise
        for name, data in kept.items():
            catalog.save(name, data)
        made = {name: kept[name] if name in kept else catalog.load(name) for name in node.outputs}
        hook.after_node_run(node=node, catalog=catalog, inputs={}, outputs=made, is_async=False, run_id=task.run_id)
        for name, data in made.items():
            hook.after_dataset_saved(dataset_name=name, data=data, node=node)

    def _result_of(self, sent: _Sent, remote: "RemoteFuture") -> dict[str, Any]:
        from distributed import KilledWorker

        node = sent.task.node
        try:
            return remote.result()
        except KilledWorker as error:
            reason = f"{_LOSSES} workers or more were lost at it, the last one {error.last_worker.address}"
            give_up = getattr(node.func, "give_up", None)
            if give_up is None:
                raise CommandLineError(f"{node.name} failed: {reason}", ExitCode.NO_CLUSTER) from error
            logger.error("%s failed: %s", node.name, reason, extra=PLAIN)
            (name,) = node.outputs
            sent.task.catalog.save(name, give_up(f"lost: {reason}"))
            return {}
        except CancelledError as error:
            raise _lost(f"it no longer knows {node.name}") from error

    def _guard(self, sent: _Sent, act: Callable[[], Any]) -> None:
        """Let an error of a hook or a node end its task, and with it the run."""
        try:
            act()
        except Exception as error:
            if not sent.future.done():
                sent.future.set_exception(error)

    def _watch(self) -> None:
        """Keep workers at work; end all tasks when the scheduler is gone, or no worker comes."""
        seen = time.monotonic()
        for look in itertools.count(1):
            if self._over.wait(_LOOK_SECONDS):
                return
            status = self._cluster.client.status
            if status == "running" and look % _REFILL_LOOKS == 0:
                self._cluster.refill()
            self._room = self._cluster.workers if status == "running" else 0
            if status in ("closed", "closing"):
                self._fail(_lost("the connection to its scheduler is lost"))
            elif self._room or not self._sent:
                seen = time.monotonic()
                self._fill()
            elif time.monotonic() - seen > self._patience:
                self._fail(_lost(f"it has had no worker for {self._patience:g} s (patience_seconds)"))

    def _fail(self, error: CommandLineError) -> None:
        for sent in list(self._sent.values()):
            if not sent.future.done():
                sent.future.set_exception(error)


def _was_lost(remote: "RemoteFuture") -> bool:
    """Tell whether Dask has given a task up, as too many workers that had it were lost."""
    from distributed import KilledWorker

    return remote.status == "error" and isinstance(remote.exception(), KilledWorker)


@dataclass(frozen=True)
class _Work:
    """Runs a node in a worker, and says when it begins."""

    topic: str
    key: str

    def __call__(self, node: Any, catalog: Any, site: Site) -> dict[str, Any]:
        from distributed import get_worker

        worker = get_worker()
        return run_node(node, catalog, site, lambda: worker.log_event(self.topic, self.key))


def _lost(why: str) -> CommandLineError:
    return CommandLineError(
        f"the Dask cluster cannot be used any longer: {why}. The same command again takes what is finished and goes on",
        ExitCode.NO_CLUSTER,
    )
