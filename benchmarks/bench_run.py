"""Time and peak resident memory of whole runs, each in a process of its own, as `make run` starts them."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("env", ["local", "test"])
def test_mkd_on_textures(benchmark, env):
    command = [sys.executable, "-m", "kedro", "run", f"--env={env}"]
    environment = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1"}
    started = time.perf_counter()
    benchmark.pedantic(
        subprocess.run, (command,), {"cwd": PROJECT, "env": environment, "check": True}, rounds=1, iterations=1
    )
    metrics = json.loads((PROJECT / "data/08_reporting/textures/brick/mkd/metrics.json").read_text())
    # The largest child so far: of two runs, the larger one.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    benchmark.extra_info["peak resident, GB"] = round(peak, 2)
    by_stage = metrics["seconds"] | {"mapping": sum(metrics["seconds"]["mapping"].values())}
    benchmark.extra_info["seconds by stage"] = {name: round(s, 1) for name, s in by_stage.items()}
    print(f"\n{env}: {time.perf_counter() - started:.0f} s, {benchmark.extra_info}")
