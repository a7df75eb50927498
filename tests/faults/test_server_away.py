"""MLflow's server goes away in the middle of a grid: all of the grid is in MLflow afterwards, once."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from projects import FEW, copy_project
from running import wait_while_running

pytestmark = pytest.mark.faults

_AWAY = 30.0  # seconds
_PARAMETERS = ",".join(
    [
        *(f"dataset.textures.{name}={value}" for name, value in FEW.items()),
        *("reporting.sheet_rows=1", "reporting.case_sheet_rows=1"),
        *("mkd_ablation.axes=loss_terms", "mkd_ablation.seeds=0 1 2", "mkd_ablation.resamples=100"),
    ]
)
#: What differs between two runs that are the same.
_OWN_TIMES = ("seconds", "milliseconds_an_image")


def _begin(project: Path, uri: str | None) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    if uri is not None:
        environment["MLFLOW_TRACKING_URI"] = uri
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipelines=mkd_ablation"]
    with (project / "said").open("w") as said:
        return subprocess.Popen(
            [*command, f"--params={_PARAMETERS}"], cwd=project, env=environment, stdout=said, stderr=subprocess.STDOUT
        )


def _runs(uri: str) -> list[Run]:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("kdad")
    return [] if experiment is None else client.search_runs([experiment.experiment_id], max_results=1000)


def _content(uri: str) -> dict[str, dict[str, Any]]:
    """Return what MLflow holds, by the names of runs."""
    client = mlflow.MlflowClient(uri)
    runs = _runs(uri)
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs)
    found = {}
    for run in runs:
        metrics = [name for name in run.data.metrics if not name.endswith(_OWN_TIMES) and "seconds" not in name]
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in metrics}
        found[run.info.run_name] = {
            "status": run.info.status,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId", "")),
            "parameters": run.data.params,
            "metrics": {name: sorted((one.step, one.value) for one in all_) for name, all_ in histories.items()},
            "artifacts": {one.path for one in client.list_artifacts(run.info.run_id)},
            "inputs": sorted((one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs),
            "axis": run.data.tags.get("axis"),
        }
    return found


def test_a_server_that_goes_away_in_the_middle_of_a_grid(tmp_path, migrated_database, postgres_server):
    whole = copy_project(tmp_path / "whole", migrated_database)
    assert _begin(whole, None).wait(500) == 0, (whole / "said").read_text()
    expected = _content(f"sqlite:///{whole / 'mlflow.db'}")
    assert len(expected) > 5

    project = copy_project(tmp_path / "project", migrated_database)
    running = _begin(project, postgres_server.uri)
    wait_while_running(running, lambda: len(_runs(postgres_server.uri)) > 2)  # the run, and its first variants
    postgres_server.kill()
    away = time.monotonic()
    wait_while_running(running, lambda: "cannot take" in " ".join((project / "said").read_text().split()))
    before = (project / "said").read_text().count("Case ")
    time.sleep(max(0.0, _AWAY - (time.monotonic() - away)))
    assert (project / "said").read_text().count("Case ") > before, "the training has waited for the server"
    postgres_server.start()
    assert running.wait(500) == 0, (project / "said").read_text()
    said = (project / "said").read_text()
    assert "Traceback" not in said
    subprocess.run([sys.executable, "-m", "kdad.tracking"], cwd=project, check=True, timeout=400)
    assert _content(postgres_server.uri) == expected
    assert not [path for path in (project / "mlruns/waiting").iterdir() if path.is_dir()]
