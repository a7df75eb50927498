"""How far a block of code raises the process's resident memory."""

import threading
from types import TracebackType

import psutil

_INTERVAL = 0.01  # seconds between looks


class ResidentRise:
    """Around a block: `peak` is the most by which resident memory rose above its start, in bytes.

    Looked at every 10 ms by a thread, so what is freed sooner may be missed, as is what fits into memory freed before.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._process = psutil.Process()
        self._ended = threading.Event()

    def __enter__(self) -> "ResidentRise":
        self._start = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, self._process.memory_info().rss - self._start)
