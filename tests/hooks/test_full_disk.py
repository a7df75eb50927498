"""A run whose disk is full ends with one message that names what could not be written, and leaves no half of it."""

import errno

import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError

from kdad.detectors.detector import Detector
from projects import SMALL, half_written, logged_runs, run_pipeline

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
        patch.setattr("kdad.detectors.mkd.training.train", lambda *_: pytest.fail("it was trained again"))
        run_pipeline(project, runtime_params=SMALL)
    assert not half_written(project)
