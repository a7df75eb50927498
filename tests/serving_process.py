"""A server of a detector in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from projects import PROJECT


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
