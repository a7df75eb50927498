"""A server of a detector in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdad.parameters.blocks import ServingParameters
from kdad.serving.__main__ import server_of
from projects import PROJECT


@contextmanager
def served_here(app: Any) -> Iterator[tuple[str, int]]:
    """Serve an app on the loopback as the command does, in a thread of this process; gives host and port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        server = server_of(app, ServingParameters())
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join(60)


class ServingProcess:
    """``python -m kdad.serving`` on the loopback, at a free port unless one is given."""

    def __init__(self, detector: Path | str, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "kdad.serving", str(detector), f"--conf-source={PROJECT / 'conf'}"]
        self.process = subprocess.Popen(
            [*command, f"--port={port}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        )
        self.address = self._wait()

    def _wait(self) -> str:
        said = ""
        for line in self.process.stdout:
            said += line
            found = re.search(r"answers at (http://\S+)", line)
            if found:
                return found[1]
        raise AssertionError(f"the server has ended with {self.process.wait()}: {said}")

    def end(self) -> tuple[int, str]:
        """End it by SIGTERM; return its exit code and what else it has said."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.stdout.read()
        return self.process.wait(60), said
