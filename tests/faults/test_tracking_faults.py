"""MLflow dies, or its database is locked, while a run goes on: the training is kept, and the record comes complete."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from projects import FEW_GIVEN, copy_project

pytestmark = pytest.mark.faults

_PARAMETERS = f"{FEW_GIVEN},scoring.localisation=discrepancy,tracking.patience=3"
_MOMENTS = 10
_TRIES = 5
_TIMEOUT = 900  # seconds; a run takes 20 where nothing else does


def _start(project: Path, uri: str | None, seed: int) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    if uri is not None:
        environment["MLFLOW_TRACKING_URI"] = uri
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--params={_PARAMETERS},seed={seed}"]
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _send(project: Path) -> None:
    """Send what waits. On a busy machine a server may not answer within the seconds that are given to it at a time."""
    command = [sys.executable, "-m", "kdad.tracking"]
    for _ in range(_TRIES):
        sent = subprocess.run(command, cwd=project, capture_output=True, text=True)
        if sent.returncode == 0:
            return
    raise AssertionError(sent.stdout + sent.stderr)


def _content(uri: str, seed: int) -> dict[str, object]:
    """What MLflow holds of the run with a seed, without its values."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("kdad")
    (run,) = client.search_runs([experiment.experiment_id], f"params.seed = '{seed}'")
    return {
        "status": run.info.status,
        "parameters": set(run.data.params),
        "metrics": {name: len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics},
        "artifacts": {found.path for found in client.list_artifacts(run.info.run_id)},
        "models": [client.get_logged_model(one.model_id).status for one in run.outputs.model_outputs],
        "inputs": sorted(found.tags[0].value for found in run.inputs.dataset_inputs),
    }


def test_the_server_is_killed_at_random_moments(tmp_path, migrated_database, tracking_server):
    project = copy_project(tmp_path / "project", migrated_database)
    began = time.monotonic()
    whole = _start(project, tracking_server.uri, 1000)
    assert whole.wait() == 0, whole.stdout.read()
    seconds = time.monotonic() - began
    _send(project)  # what a busy machine was too slow for
    expected = _content(tracking_server.uri, 1000)
    assert expected["status"] == "FINISHED" and expected["models"] == ["READY"]
    draw = random.Random(0)
    for seed in range(_MOMENTS):
        running = _start(project, tracking_server.uri, seed)
        time.sleep(draw.uniform(0.2, 1.0) * seconds)
        tracking_server.kill()
        output, _ = running.communicate(timeout=_TIMEOUT)
        assert running.returncode == 0, output
        assert "Traceback" not in output
        tracking_server.start()
        _send(project)
        assert _content(tracking_server.uri, seed) == expected, output
    assert not list((project / "mlruns/waiting").glob("*/run.json"))


def test_the_database_is_locked_at_random_moments(tmp_path, migrated_database):
    project = copy_project(tmp_path / "project", migrated_database)
    uri = f"sqlite:///{project / 'mlflow.db'}"
    began = time.monotonic()
    whole = _start(project, None, 1000)
    assert whole.wait() == 0, whole.stdout.read()
    seconds = time.monotonic() - began
    _send(project)  # what a busy machine was too slow for
    expected = _content(uri, 1000)
    draw = random.Random(0)
    for seed in range(_MOMENTS):
        running = _start(project, None, seed)
        time.sleep(draw.uniform(0.2, 0.9) * seconds)
        lock = sqlite3.connect(project / "mlflow.db", isolation_level=None, timeout=30)
        lock.execute("BEGIN EXCLUSIVE")
        output, _ = running.communicate(timeout=_TIMEOUT)
        lock.rollback()
        lock.close()
        assert running.returncode == 0, output
        assert "Traceback" not in output
        _send(project)
        assert _content(uri, seed) == expected, output
