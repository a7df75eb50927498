"""A thread that sends spools while the work goes on, and goes on trying when MLflow does not answer."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from kdad.errors import first_line
from kdad.tracking.destination import Destination, limit_patience
from kdad.tracking.spool import Spool

logger = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between looks for new records
_RETRY = 10.0  # seconds after MLflow did not answer


class Sender:
    """Sends the records of a run's spool in the background, after what older runs have left.

    MLflow is imported by the thread, which is started with the first call of `start`: an import of two seconds.
    """

    def __init__(self, spool: Spool, key: str, destination: Destination, waiting: Path) -> None:
        self._spool, self._key, self._destination, self._waiting = spool, key, destination, waiting
        self._thread: threading.Thread | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._progress = time.monotonic()
        self._failures = 0
        self.trouble: str | None = None
        self.system_metrics = False

    def start(self) -> None:
        """Begin to send; a second call does nothing."""
        if self._thread is None:
            limit_patience()
            self._thread = threading.Thread(target=self._run, name="kdad tracking", daemon=True)
            self._progress = time.monotonic()
            self._thread.start()

    def flush(self, patience: float) -> bool:
        """Wait until everything is sent, as long as something is sent every `patience` seconds; tell whether it was.

        A destination that does not answer is asked once more, and not waited for.
        """
        self.start()
        self._progress, failures = time.monotonic(), self._failures
        self._wake.set()
        while not self._spool.is_empty and time.monotonic() - self._progress < patience:
            if self._failures > failures:
                break
            time.sleep(0.02)
        return self._spool.is_empty

    def stop(self) -> None:
        """End the thread after the record that it is at."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._spool.has_begun:
            if self._stop.wait(_PAUSE / 5):
                return
        from kdad.tracking.delivery import Delivery, close_left_runs

        delivery = Delivery(self._destination)
        cleared, monitor = False, None
        while not self._stop.is_set():
            try:
                delivery.deliver(self._spool, self._note_progress)
                if self.system_metrics and monitor is None:
                    monitor = self._monitor()
                if not cleared and self._spool.is_empty:
                    close_left_runs(self._waiting, delivery)
                    cleared = True
                self._note_answer()
                pause = _PAUSE
            except FileNotFoundError:
                if not self._spool.folder.exists():
                    return  # someone has cleared the project
                pause = _PAUSE
            except Exception as error:  # whatever a server, a database or a disk says must not cost the training
                self._say(error)
                pause = _RETRY
            self._wake.wait(pause)
            self._wake.clear()
        if monitor is not None:
            monitor.finish()

    def _monitor(self) -> Any:
        """Log the machine's use, from MLflow's own thread."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self._spool.sent[self._key]["id"], tracking_uri=self._destination.uri)
        monitor.start()
        return monitor

    def _note_progress(self) -> None:
        self._progress = time.monotonic()
        self._note_answer()  # at once: a run that ends meanwhile waits as long as there is progress

    def _note_answer(self) -> None:
        if self.trouble is not None:
            logger.info("MLflow answers again; what has waited is sent")
            self.trouble = None

    def _say(self, error: Exception) -> None:
        reason = first_line(error)[:300]
        if self.trouble is None:
            logger.warning(
                "MLflow at %s cannot take this run's records (%s). The run goes on; they wait in %s and are sent when "
                "it answers, or by the next run.",
                *(self._destination.uri, reason, self._spool.folder),
            )
        self._failures += 1  # first: who sees the trouble has it counted
        self.trouble = reason
