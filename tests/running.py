"""Waiting for what a process that a test has started is to do."""

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_while_running(running: subprocess.Popen, what: Callable[[], Any], seconds: float = 240) -> None:
    """Return as soon as `what` is true; fails with what the process has said when it ends before, or takes longer."""
    until = time.monotonic() + seconds
    while not what():
        if running.poll() is not None or time.monotonic() > until:
            running.kill()
            raise AssertionError(running.communicate()[0])
        time.sleep(0.2)
