"""A PostgreSQL server on the loopback, for tests of MLflow's server on it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

_DATABASE = "mlflow"


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, where Debian has them or on the path; None when there are none."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = packaged[-1] if packaged else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresCluster:
    """A cluster of its own with one empty database; who connects from this machine is trusted.

    PostgreSQL refuses to be run by root: then it belongs to the user ``postgres``, or to ``nobody``.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not in pytest's folders, which another user cannot enter; and a socket's path is 107 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="kdad-postgres-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            entry = names.get("postgres") or names["nobody"]
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"postgresql+psycopg://kdad@127.0.0.1:{self.port}/{_DATABASE}"
        self._process: subprocess.Popen | None = None
        self._run("initdb", "--auth=trust", "--username=kdad", "--encoding=UTF8", "--no-locale", "--no-sync", "data")

    def create(self) -> None:
        """Start it, and make the database."""
        self.start()
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=kdad", _DATABASE)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command = [str(self._programs / "postgres"), "-D", "data", "-k", str(self._folder), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]  # no test survives a power cut
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True, **self._user
            )
        until = time.monotonic() + 120
        while self._ask() != 0:
            if time.monotonic() > until or self._process.poll() is not None:
                raise AssertionError((self._folder / "log").read_text())
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop it; clients are cut off, as by a restart of the machine's service."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(120)
            finally:
                if self._process.poll() is None:
                    self._process.kill()  # its backends end without it
            self._process = None

    def remove(self) -> None:
        """Stop it, and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self) -> int:
        command = [str(self._programs / "pg_isready"), "--host=127.0.0.1", f"--port={self.port}", "--quiet"]
        return subprocess.run(command, check=False).returncode

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, **self._user)
        if done.returncode:
            raise AssertionError(done.stderr)
