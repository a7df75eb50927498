"""A thread that writes a run to MLflow while the work goes on, and goes on trying when MLflow does not answer."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdad.errors import first_line
from kdad.tracking.destination import Destination, limit_patience
from kdad.tracking.run import TrackedRun, record_run, runs_in

logger = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between looks for what is new
_RETRY = 10.0  # seconds after MLflow did not answer
_RETRY_LOCAL = 1.0  # of a database that another process has locked, while a run's end waits
_LOOK = 0.1  # seconds between looks at the thread
_WORK, _SHARE = 0.02, 0.01  # seconds of processor time, and of each second, that tell work from waiting for an answer


class Uploader:
    """Writes a run's folder to MLflow in the background, and what older runs have left in `waiting`.

    MLflow is imported by the thread, which is started with the first call of `start`: an import of two seconds.
    """

    def __init__(self, run: TrackedRun, destination: Destination, waiting: Path) -> None:
        self._run, self._destination, self._waiting = run, destination, waiting
        self._thread: threading.Thread | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._progress, self._failures = time.monotonic(), 0
        self._wanted = self._written = 0  # numbers of calls of `finish`
        self._awaited, self._left = False, True
        self.trouble: str | None = None
        self.system_metrics = False

    def start(self) -> None:
        """Begin to write; a second call does nothing."""
        if self._thread is None:
            limit_patience()
            self._thread = threading.Thread(target=self._work, name="kdad tracking", daemon=True)
            self._thread.start()

    def finish(self, patience: float) -> bool:
        """Wait, as `wait` does, until MLflow has all that is in the folder now, and what older runs have left.

        Tells whether it has what is in the folder.
        """
        self._wanted += 1
        wanted = self._wanted
        done = self.wait(lambda: self._written >= wanted, patience)
        if done:
            self.wait(lambda: not self._left, patience)
        return done

    def wait(self, done: Callable[[], bool], patience: float) -> bool:
        """Wait as long as something is written, or computed, every `patience` seconds; tell whether it is done.

        A server that does not answer is asked once more, and not waited for; a local database that another has locked
        is asked each second.
        """
        self.start()
        self._awaited, self._progress, failures = True, time.monotonic(), self._failures
        computed = time.process_time()
        self._wake.set()
        while not done() and time.monotonic() - self._progress < patience:
            if self._failures > failures and not self._destination.is_local:
                break
            time.sleep(_LOOK)
            silent = time.monotonic() - self._progress
            # What takes long on a busy machine - to import MLflow, to make a database, to pack a model - computes.
            if self.trouble is None and time.process_time() - computed > _WORK + _SHARE * silent:
                self._progress, computed = time.monotonic(), time.process_time()
        self._awaited = False
        return done()

    def stop(self, seconds: float = 2.0) -> None:
        """End the thread after what it is at, for which it has so many seconds."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    def _work(self) -> None:
        while not self._run.has_begun:
            if self._stop.wait(_PAUSE / 5):
                return
        from kdad.tracking.writer import MlflowWriter

        writer = MlflowWriter(self._destination, self._note_progress)
        monitor = None
        while not self._stop.is_set() and self._run.head:  # which is gone where someone has cleared the project
            wanted, pause = self._wanted, _PAUSE
            try:
                writer.write(self._run)
                self._note_progress()
                self._written = wanted
                if self.system_metrics and monitor is None:
                    monitor = self._monitor()
                if self._left:
                    write_left_runs(self._waiting, writer)
                    self._left = False
            except Exception as error:  # whatever a server, a database or a disk says must not cost the training
                self._say(error)
                pause = _RETRY_LOCAL if self._awaited and self._destination.is_local else _RETRY
            self._wake.wait(pause)
            self._wake.clear()
        if monitor is not None:
            monitor.finish()

    def _monitor(self) -> Any:
        """Log the machine's use, from MLflow's own thread."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self._run.sent["id"], tracking_uri=self._destination.uri)
        monitor.start()
        return monitor

    def _note_progress(self) -> None:
        """Note it at once: a run that ends meanwhile waits as long as there is progress."""
        self._progress = time.monotonic()
        if self.trouble is not None:
            logger.info("MLflow answers again; what has waited is sent")
            self.trouble = None

    def _say(self, error: Exception) -> None:
        reason = first_line(error)[:300]
        if self.trouble is None:
            logger.warning(
                "MLflow at %s cannot take this run's records (%s). The run goes on; they wait in %s and are sent when "
                "it answers, or by the next run.",
                *(self._destination.uri, reason, self._run.path),
            )
        self._failures += 1  # first: who sees the trouble has it counted
        self.trouble = reason


def begin_run(
    destination: Destination, waiting: Path, name: str, tags: dict[str, str], parent: str | None
) -> tuple[TrackedRun, Uploader]:
    """Begin a run of this process; return it and what uploads it. `waiting` is where runs wait to be in MLflow."""
    run = record_run(waiting, name, tags, parent, destination.plain())
    return run, Uploader(run, destination, waiting)


def write_left_runs(waiting: Path, writer: Any) -> int:
    """Write what dead processes have left, close as KILLED the runs that they left open; count the folders.

    Those of another destination stay.
    """
    settled = 0
    for run in runs_in(waiting):
        try:
            if run.head.get("destination") != writer.destination.plain() or not run.is_orphan:
                continue
            with FileLock(run.path / "closing.lock", timeout=0):
                if run.has_begun:
                    run.kill()
                    writer.write(run)
                run.remove()
        except (Timeout, FileNotFoundError):
            continue  # another process is at it
        settled += 1
        logger.info("what an earlier run had left for MLflow was sent")
    return settled
