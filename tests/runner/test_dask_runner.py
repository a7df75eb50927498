import os
import subprocess
import sys

import pandas as pd
import pytest
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner

from kdad.project.command_line import CommandLineError, ExitCode
from kdad.runner import DaskRunner
from projects import SMALL, copy_project, logged_runs, run_pipeline

_PLAN = {"mkd_ablation": {"axes": "loss_terms", "resamples": 100}}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"adress": "tcp://127.0.0.1:8786"}, "there is no 'adress'; did you mean 'address'?"),
        ({"workers": 0}, "workers is '0', and has to be a whole number above 0"),
        ({"threads": 1.5}, "threads is '1.5', and has to be a whole number above 0"),
        ({"patience_seconds": "long"}, "patience_seconds is 'long', and has to be a number above 0"),
        ({"address": "tcp://127.0.0.1:8786", "workers": 2}, "workers and threads are of a cluster of its own"),
    ],
)
def test_a_wrong_parameter_is_one_message(parameters, message):
    with pytest.raises(CommandLineError) as caught:
        DaskRunner(**parameters)
    assert message in str(caught.value) and caught.value.exit_code == ExitCode.WRONG_COMMAND


def _ablate(folder, database, monkeypatch, runner):
    """Return the summary's metrics, but for times and memory, and all runs in MLflow."""
    project = copy_project(folder, database)
    monkeypatch.chdir(project)
    run_pipeline(project, pipeline="mkd_ablation", runtime_params=SMALL | _PLAN, runner=runner)
    (file,) = (project / "data/08_reporting").rglob("summary.csv")
    table = pd.read_csv(file)
    measured = table[~table["metric"].str.contains("seconds|milli|megabytes")].reset_index(drop=True)
    return measured[["axis", "variant", "category", "seed", "metric", "value"]], logged_runs(project)


@pytest.mark.long
@pytest.mark.parametrize(
    "runner",
    [DaskRunner(workers=2), ThreadRunner(max_workers=3), ParallelRunner(max_workers=2)],
    ids=lambda runner: type(runner).__name__,
)
def test_every_runner_gives_what_the_sequential_one_gives(tmp_path, migrated_database, monkeypatch, runner):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order differ in their last digits
    table, runs = _ablate(tmp_path / "one", migrated_database, monkeypatch, SequentialRunner())
    other_table, other_runs = _ablate(tmp_path / "many", migrated_database, monkeypatch, runner)
    pd.testing.assert_frame_equal(table, other_table, check_exact=True)
    metrics = []
    for found in (runs, other_runs):
        (parent,) = [run for run in found if "axis" not in run.data.tags]
        children = [run for run in found if "axis" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {run.info.status for run in found} == {"FINISHED"}
        metrics.append({run.data.tags["variant"]: run.data.metrics["image_auroc"] for run in children})
    assert len(children) == len(metrics[0]) == 5 and metrics[0] == metrics[1]


def test_kedro_run_names_it(tmp_path, migrated_database):
    project = copy_project(tmp_path / "project", migrated_database)
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipelines=ingestion"]
    command += ["--runner=kdad.runner.DaskRunner", "--runner-params=address=tcp://127.0.0.1:9,connect_seconds=1"]
    done = subprocess.run(
        command,
        cwd=project,
        env=os.environ | {"KEDRO_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.NO_CLUSTER, done.stdout + done.stderr
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9' within 1 s" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
