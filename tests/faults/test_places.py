"""Folders that may not be written or read, data on another disk, and a clock that was set back."""

import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
from kedro.framework.cli.utils import KedroCliError

from golden_numbers import numbers_of
from kdad.storage.replacing import ProcessLock
from kept_detectors import write_bricks
from projects import SMALL, copy_project, half_written, logged_runs, run_pipeline

MKD = Path("data/08_reporting/textures/brick/mkd/metrics.json")


def _refuse(number: int):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_of_data_that_is_for_reading_alone_ends_the_run_before_it_begins(project, monkeypatch, number):
    monkeypatch.setattr("filelock._api.BaseFileLock.acquire", lambda lock, **_: _refuse(number)(lock.lock_file))
    with pytest.raises(KedroCliError, match=r"\.lock' may not be written; use a folder, or a checkout, of your own"):
        run_pipeline(project, pipeline="ingestion", runtime_params=SMALL)
    assert logged_runs(project) == []
    assert not list((project / "data").glob("0[2-8]*"))


@pytest.mark.parametrize("number", [errno.EROFS])
@pytest.mark.faults
def test_a_store_that_may_not_be_written_is_one_message_that_names_it(project, monkeypatch, number):
    monkeypatch.setattr("kdad.storage.content_store.write_checksums", _refuse(number))
    with pytest.raises(KedroCliError, match=r"\.partial' may not be read or written \(.*\); change its rights"):
        run_pipeline(project, runtime_params=SMALL)
    assert logged_runs(project) == []  # its first node was not done
    monkeypatch.undo()
    run_pipeline(project, runtime_params=SMALL)
    assert half_written(project) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_an_image_that_may_not_be_read_is_named(project, tmp_path):
    base = write_bricks(tmp_path / "pictures")
    (base / "train/good/003.png").chmod(0)
    dataset = {"name": "folder", "root": str(base.parent), "category": "brick"}
    with pytest.raises(KedroCliError, match=r"train/good/003\.png: cannot be read"):
        run_pipeline(project, pipeline="ingestion", runtime_params={"dataset": dataset})


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk")
@pytest.mark.faults
def test_data_and_outputs_on_another_disk_give_the_same_numbers(project, migrated_database, tmp_path_factory):
    """Names cannot be linked from disk to disk: they are copied."""
    run_pipeline(project, runtime_params=SMALL)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == project.stat().st_dev:
            pytest.skip("needs a second disk")
        other = copy_project(tmp_path_factory.mktemp("other"), migrated_database)
        models = Path(folder) / "models"
        models.mkdir()
        (other / "data/06_models").symlink_to(models)
        run_pipeline(other, runtime_params=SMALL)
        assert _numbers(other) == _numbers(project)
        assert list(models.glob("textures/brick/mkd/detector/detector.json"))


def _numbers(project: Path) -> dict[str, float]:
    return numbers_of(project / MKD)


@pytest.mark.faults
def test_a_clock_that_was_set_back_changes_nothing(project, monkeypatch):
    """Finished work is known by content and not by its age: all is found, and of the runs none stays open."""
    run_pipeline(project, runtime_params=SMALL)
    before = _numbers(project)
    now, now_ns = time.time, time.time_ns
    day = 86_400
    monkeypatch.setattr(time, "time", lambda: now() - day)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - day * 10**9)
    monkeypatch.setattr("kdad.detectors.mkd.cloner.train", lambda *_: pytest.fail("it was trained again"))
    run_pipeline(project, runtime_params=SMALL)
    assert _numbers(project) == before
    assert [run.info.status for run in logged_runs(project)] == ["FINISHED"] * 2


def test_a_lock_left_with_a_date_in_the_future_is_free(tmp_path):
    (tmp_path / "place.lock").write_text("")
    os.utime(tmp_path / "place.lock", (2**33, 2**33))
    lock = ProcessLock(tmp_path / "place.lock")
    assert lock.take(wait=False)
    lock.free()
