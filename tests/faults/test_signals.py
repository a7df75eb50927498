"""How a run stands in MLflow after its process was told to end, or was ended."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mlflow
import pytest

from projects import FEW_GIVEN, copy_project, logged_runs
from running import wait_while_running

pytestmark = pytest.mark.faults

_PARAMETERS = FEW_GIVEN


@pytest.fixture
def started(tmp_path, migrated_database):
    """A project, and a function that starts `kedro run` of an ablation there and waits until a case has begun."""
    project = copy_project(tmp_path / "project", migrated_database)

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipeline=mkd_ablation"]
        command.append(f"--params={_PARAMETERS}")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
        running = subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_while_running(running, lambda: any("variant" in run.data.tags for run in logged_runs(project)))
        return running

    return project, start


def _statuses(project: Path) -> Counter:
    return Counter(("child" if "axis" in run.data.tags else "run", run.info.status) for run in logged_runs(project))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_is_killed_with_its_children(started, number, code):
    project, start = started
    running = start()
    running.send_signal(number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == code, output
    assert "Traceback" not in output
    states = _statuses(project)
    assert states["run", "KILLED"] == 1 and states["run", "RUNNING"] == states["child", "RUNNING"] == 0
    assert states["child", "KILLED"] <= 1
    assert not list((project / "mlruns/waiting").glob("*/run.json"))


def test_the_next_run_closes_what_was_killed(started):
    project, start = started
    running = start()
    running.kill()
    running.communicate()
    assert _statuses(project)["run", "RUNNING"] == 1
    again = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env=test", "--pipeline=ingestion", f"--params={_PARAMETERS}"],
        cwd=project,
        env=os.environ | {"KEDRO_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stdout
    states = _statuses(project)
    assert states["run", "KILLED"] == 1 and states["run", "FINISHED"] == 1
    assert states["run", "RUNNING"] == states["child", "RUNNING"] == 0


@pytest.mark.parametrize("count", [1, 2])
def test_each_case_has_one_child_whatever_runs_it(tmp_path, migrated_database, count):
    project = copy_project(tmp_path / "project", migrated_database)
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipeline=mkd_ablation"]
    command.append(f"--params={_PARAMETERS},mkd_ablation.axes=loss_terms,workers.count={count}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _statuses(project) == {("run", "FINISHED"): 1, ("child", "FINISHED"): 5}
    runs = logged_runs(project)
    (parent,) = [run for run in runs if "axis" not in run.data.tags]
    children = [run for run in runs if "axis" in run.data.tags]
    assert len({run.data.tags["variant"] for run in children}) == 5
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    for run in children:
        assert parent.info.start_time <= run.info.start_time <= run.info.end_time <= parent.info.end_time
    assert mlflow.active_run() is None
