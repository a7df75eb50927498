"""Ctrl-C and SIGTERM end a run, even when they come at a moment that swallows exceptions."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

#: Seconds after which a signal whose exception was lost is sent again.
_PATIENCE = 2.0


class RaiseOnSignal:
    """While it is entered, SIGINT raises `KeyboardInterrupt` and SIGTERM `SystemExit` until the block is left.

    Python runs a handler wherever the main thread is. In a weak reference's callback or a finaliser, of which imports
    are full, what it raises is printed and lost, and the run would go on. Signals that are ignored, or that somebody
    handles already, are left alone.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "RaiseOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is default:
                    self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._cancel()
        self._timer = threading.Timer(_PATIENCE, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class StopRequested:
    """While it is entered, the first SIGINT or SIGTERM is remembered in `requested`; a second one acts as before.

    For work that has no end of its own, and stops between two pieces of it.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequested":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
