"""An ablation on a cluster whose workers are killed, or that is told to end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from projects import FEW_GIVEN, copy_project, logged_runs
from running import wait_while_running

pytestmark = pytest.mark.faults

_PARAMETERS = f"{FEW_GIVEN},mkd_ablation.axes=loss_terms,mkd_ablation.seeds=0 1 2"
_CASES = 15
_WORKERS = ",workers.count=2"
_KILLS = int(os.environ.get("KDAD_KILLS", "10"))


def _start(project: Path, workers: str = "") -> subprocess.Popen:
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipeline=mkd_ablation"]
    command.append(f"--params={_PARAMETERS}{workers}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _workers(run: subprocess.Popen) -> list[psutil.Process]:
    """Return the worker processes of a run's cluster; the tracker of multiprocessing's resources is none."""
    try:
        found = psutil.Process(run.pid).children(recursive=True)
        return [one for one in found if "spawn_main" in " ".join(one.cmdline())]
    except psutil.NoSuchProcess:
        return []


def _wait_for_a_case(running: subprocess.Popen, project: Path) -> None:
    wait_while_running(running, lambda: any("axis" in run.data.tags for run in logged_runs(project)))


def _table(project: Path) -> pd.DataFrame:
    (path,) = (project / "data/08_reporting").rglob("summary.csv")
    table = pd.read_csv(path)
    table = table[~table["metric"].str.contains("seconds|milli|megabytes")]
    return table[["axis", "variant", "category", "seed", "metric", "value"]].reset_index(drop=True)


def _children(project: Path) -> list[tuple[str, str]]:
    runs = [run for run in logged_runs(project) if "axis" in run.data.tags]
    return sorted((run.info.run_name, run.info.status) for run in runs)


def test_workers_that_are_killed_lose_no_case_and_double_none(tmp_path, migrated_database):
    projects = [copy_project(tmp_path / name, migrated_database) for name in ("undisturbed", "disturbed")]
    undisturbed = _start(projects[0])
    assert undisturbed.wait(600) == 0, undisturbed.communicate()[0]
    running, moments, killed = _start(projects[1], _WORKERS), random.Random(0), 0
    _wait_for_a_case(running, projects[1])
    while running.poll() is None and killed < _KILLS:
        time.sleep(moments.uniform(2.0, 8.0))
        workers = _workers(running)
        if workers:
            moments.choice(workers).kill()
            killed += 1
    output, _ = running.communicate(timeout=1200)
    assert running.returncode == 0, output
    assert killed == _KILLS, f"it ended after {killed} kills"
    pd.testing.assert_frame_equal(_table(projects[0]), _table(projects[1]), check_exact=True)
    assert _children(projects[0]) == _children(projects[1])
    assert {status for _, status in _children(projects[1])} == {"FINISHED"} and len(_children(projects[1])) == _CASES


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_takes_its_workers_with_it(tmp_path, migrated_database, number, code):
    project = copy_project(tmp_path / "project", migrated_database)
    running = _start(project, _WORKERS)
    _wait_for_a_case(running, project)
    workers = _workers(running)
    running.send_signal(number)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == code, output
    assert "Traceback" not in output
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert {run.info.status for run in logged_runs(project)} <= {"KILLED", "FINISHED"}


def test_a_scheduler_that_does_not_answer_is_one_message_before_anything_is_computed(tmp_path, migrated_database):
    project = copy_project(tmp_path / "project", migrated_database)
    running = _start(project, ",workers.address=tcp://127.0.0.1:9,workers.connect_seconds=1")
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 10, output
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9' within 1 s" in output
    assert "Traceback" not in output
    assert not (project / "data/04_feature").exists()
