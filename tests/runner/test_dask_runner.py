import os
import subprocess
import sys

import pandas as pd
import pytest
from kedro.runner import SequentialRunner

from kdad.command_line import CommandLineError, ExitCode
from kdad.runner import DaskRunner
from projects import SMALL, copy_project, logged_runs, run_pipeline


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


def test_it_gives_what_the_sequential_runner_gives(tmp_path, migrated_database, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order differ in their last digits
    plan = {"mkd_ablation": {"axes": "loss_terms", "resamples": 100}}
    tables, runs = [], []
    for name, runner in [("one", SequentialRunner()), ("many", DaskRunner(workers=2))]:
        project = copy_project(tmp_path / name, migrated_database)
        monkeypatch.chdir(project)
        run_pipeline(project, pipeline="mkd_ablation", runtime_params=SMALL | plan, runner=runner)
        (table,) = (project / "data/08_reporting").rglob("summary.csv")
        tables.append(pd.read_csv(table))
        runs.append(logged_runs(project))
    measured = [
        table[~table["metric"].str.contains("seconds|milli|megabytes")].reset_index(drop=True) for table in tables
    ]
    columns = ["axis", "variant", "category", "seed", "metric", "value"]
    pd.testing.assert_frame_equal(measured[0][columns], measured[1][columns], check_exact=True)
    for found in runs:
        (parent,) = [run for run in found if "axis" not in run.data.tags]
        children = [run for run in found if "axis" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {run.info.status for run in found} == {"FINISHED"}
    metrics = [
        {
            (run.data.tags["variant"], run.data.tags["category"]): run.data.metrics["image_auroc"]
            for run in found
            if "axis" in run.data.tags
        }
        for found in runs
    ]
    assert len(metrics[0]) == 5 and metrics[0] == metrics[1]


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
