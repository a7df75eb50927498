"""An ablation on worker processes: the numbers are those of one process, and MLflow has each case once."""

from pathlib import Path

import pandas as pd
import pytest

from projects import SMALL, copy_project, logged_runs, run_pipeline

PLAN = {"mkd_ablation": {"axes": "loss_terms", "resamples": 100}}


def _ablate(project: Path, **workers) -> pd.DataFrame:
    """Return the summary's metrics, but for times and memory."""
    run_pipeline(project, pipeline="mkd_ablation", runtime_params=SMALL | PLAN | {"workers": workers})
    table = pd.read_csv(project / "data/08_reporting/textures/brick/mkd_ablation/summary.csv")
    measured = table[~table["metric"].str.contains("seconds|milli|megabytes")].reset_index(drop=True)
    return measured[["axis", "variant", "category", "seed", "metric", "value"]]


@pytest.mark.long
def test_workers_give_what_one_process_gives(tmp_path, migrated_database, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order differ in their last digits
    one, many = (copy_project(tmp_path / name, migrated_database) for name in ("one", "many"))
    monkeypatch.chdir(one)
    table = _ablate(one)
    monkeypatch.chdir(many)
    pd.testing.assert_frame_equal(table, _ablate(many, count=2, threads=1), check_exact=True)
    metrics = []
    for project in (one, many):
        runs = logged_runs(project)
        (parent,) = [run for run in runs if "axis" not in run.data.tags]
        children = [run for run in runs if "axis" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {run.info.status for run in runs} == {"FINISHED"}
        metrics.append({run.data.tags["variant"]: run.data.metrics["image_auroc"] for run in children})
    assert len(children) == len(metrics[0]) == 5 and metrics[0] == metrics[1]
