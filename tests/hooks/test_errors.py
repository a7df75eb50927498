import errno

import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.pandas import CSVDataset

from kdad.datasets.results import ThresholdDataset
from kdad.detectors.detector import Detector
from kdad.hooks.errors import MissingInputHook
from projects import SMALL, half_written, logged_runs, run_pipeline


def _use(*values: object) -> int:
    return len(values)


@pytest.fixture
def look(tmp_path):
    """Ask the hook about a pipeline that reads entries of a catalog."""
    (tmp_path / "there.csv").write_text("a\n1\n")
    entries = {
        "there": CSVDataset(filepath=str(tmp_path / "there.csv")),
        "absent": CSVDataset(filepath=str(tmp_path / "absent.csv")),
        "gone": ThresholdDataset(filepath=str(tmp_path / "gone.json")),
        "memory": MemoryDataset(1),
        "params:seed": MemoryDataset(0),
        "made": CSVDataset(filepath=str(tmp_path / "made.csv")),
    }

    def ask(*names: str, **run_params) -> None:
        nodes = [Node(_use, list(names), "made"), Node(_use, "made", "out")]
        MissingInputHook().before_pipeline_run(run_params, Pipeline(nodes), DataCatalog(entries))

    return ask


def test_what_is_there_or_is_made_by_the_run_stops_nothing(look):
    look("there", "memory", "params:seed")


def test_every_missing_file_is_named_in_one_message(look, tmp_path):
    with pytest.raises(KedroCliError) as error:
        look("there", "absent", "gone")
    assert str(error.value).splitlines() == [
        "these files are read and are not there:",
        f"  'absent', {tmp_path}/absent.csv",
        f"  'gone', {tmp_path}/gone.json",
    ]


def test_a_run_of_missing_outputs_reads_what_it_finds(look):
    look("absent", only_missing_outputs=True)


def test_a_step_without_what_comes_before_it_names_the_pipeline_that_makes_it(project, run):
    with pytest.raises(KedroCliError) as error:
        run(pipeline="reporting", to_nodes=["mkd_draw_score_histogram"])
    missing = str(error.value).splitlines()[1:]
    assert len(missing) == 3
    for name, line in zip(("fitted", "scores.csv", "threshold.json"), sorted(missing), strict=True):
        assert line.endswith(f"textures/brick/mkd/{name}: `kedro run` makes it")
    assert logged_runs(project) == []  # it came before a run of MLflow was opened


FULL = OSError(errno.ENOSPC, "No space left on device")


def fail_when_half_written(table, path_or_buf, **_):
    path_or_buf.write("id,label\n")
    raise FULL


@pytest.mark.faults
def test_an_ordinary_file_is_not_left_half_written(project, monkeypatch):
    images = project / "data/02_intermediate/textures/brick/images.csv"
    split = project / "data/03_primary/textures/brick/split.csv"
    run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    assert images.exists()
    with monkeypatch.context() as patch, pytest.raises(KedroCliError) as caught:
        patch.setattr(pd.DataFrame, "to_csv", fail_when_half_written)
        run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    assert "images.csv' could not be written whole, where" in str(caught.value)
    assert not images.exists()
    assert split.exists()  # of the earlier run, and not yet begun by this one
    assert [run.info.status for run in logged_runs(project)] == ["FAILED", "FINISHED"]


@pytest.mark.faults
def test_a_full_disk_after_the_training_does_not_cost_it(project, monkeypatch):
    """What was trained is in the store before anything else is written, and the next run finds it."""

    def fail(self, folder):
        raise FULL

    with monkeypatch.context() as patch, pytest.raises(KedroCliError, match="the disk is full"):
        patch.setattr(Detector, "save", fail)
        run_pipeline(project, runtime_params=SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("kdad.detectors.mkd.cloner.train", lambda *_: pytest.fail("it was trained again"))
        run_pipeline(project, runtime_params=SMALL)
    assert not half_written(project)
