"""Timing in turns, whole processes with their memory, and what the machine can do at the most."""

import contextlib
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

Work = Callable[[], Any]
PROJECT = Path(__file__).resolve().parents[1]


def in_turns(works: Mapping[str, Work], rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of each work; they take turns, so that a busy moment meets all."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def fresh_project(folder: Path) -> Path:
    """Make a project of this configuration in `folder`, where nothing is found done."""
    shutil.copytree(PROJECT / "conf", folder / "conf")
    for name in ("pyproject.toml", ".telemetry", "requirements.lock"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "src").mkdir()  # Kedro wants it to be there; the installed package is used
    return folder


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its seconds, its most resident memory, and the most of its own, in GB.

    What is mapped from files is resident while there is room for it, and not its own.
    """

    seconds: float
    gigabytes: float
    own_gigabytes: float


def run_process(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; raises `RuntimeError` with its output when it fails."""
    began = time.perf_counter()
    given = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1", **(environment or {})}
    with subprocess.Popen(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch = _Memory(process.pid)
        output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output)
    return Finished(time.perf_counter() - began, watch.resident / 1e9, watch.own / 1e9)


class _Memory:
    """Looks ten times a second at what a process has in memory, and what of it is mapped from no file.

    The system's own count of the most, getrusage, is handed down from the process that starts another.
    """

    def __init__(self, pid: int) -> None:
        self.resident, self.own, self._process = 0, 0, psutil.Process(pid)
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                found = self._process.memory_info()
                self.resident = max(self.resident, found.rss)
                self.own = max(self.own, found.rss - getattr(found, "shared", 0))
                time.sleep(0.1)


@dataclass(frozen=True)
class Ceiling:
    """The most that was seen of this machine: floating-point operations a second by format, and bytes a second."""

    operations: Mapping[str, float]
    bytes: float

    @classmethod
    def measure(cls) -> "Ceiling":
        """Multiply matrices of 2,048 rows in each format, and copy 512 MB."""
        side = 2048
        found = {}
        for name in ("float32", "bfloat16"):
            a, b = (torch.randn(side, side).to(getattr(torch, name)) for _ in range(2))
            found[name] = 2 * side**3 / in_turns({name: lambda a=a, b=b: a @ b}, rounds=9)[name]
        source, target = np.ones(2**26, np.float64), np.empty(2**26, np.float64)
        copied = 2 * source.nbytes / in_turns({"copy": lambda: np.copyto(target, source)}, rounds=7)["copy"]
        return cls(found, copied)


def machine() -> str:
    """Say which processor, how many threads, and which torch."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = lines[0] if lines else name
    native = "with" if torch.cpu._is_avx512_bf16_supported() else "without"
    return f"{name}, {torch.get_num_threads()} threads of torch {torch.__version__}, {native} bfloat16 in hardware"
