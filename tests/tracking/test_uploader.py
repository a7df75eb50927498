"""Records are sent while a run goes on; a destination that does not answer is told of once."""

import logging
import sqlite3
import threading
import time

import pytest

from kdad.tracking import uploader as uploading
from kdad.tracking.destination import Destination
from kdad.tracking.uploader import begin_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(uploading, "_RETRY", 0.1)
    monkeypatch.setattr(uploading, "_PAUSE", 0.05)
    caplog_level = logging.getLogger("kdad").level
    logging.getLogger("kdad").setLevel(logging.INFO)
    yield
    logging.getLogger("kdad").setLevel(caplog_level)


def test_a_run_of_which_nothing_ran_is_not_sent(tmp_path, destination, logged):
    run, uploader = begin_run(destination, tmp_path / "waiting", "idle", {}, None)
    uploader.start()
    uploader.stop()
    assert logged() == []
    assert run.sent == {}


def test_records_are_sent_in_the_background(tmp_path, destination, logged):
    run, uploader = begin_run(destination, tmp_path / "waiting", "busy", {}, None)
    run.mark_begun()
    uploader.start()
    assert uploader.wait(lambda: run.experiment is not None, 30)
    identity = run.identity()
    assert identity != run.key
    run.end("FINISHED")
    assert uploader.finish(30)
    uploader.stop()
    assert [(one.info.run_id, one.info.status) for one in logged()] == [(identity, "FINISHED")]


def test_a_locked_database_costs_nothing_and_is_said_once(tmp_path, destination, logged, caplog, monkeypatch):
    lock = sqlite3.connect(destination.database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("kdad.tracking.destination._SECONDS", 0.1)
    run, uploader = begin_run(destination, tmp_path / "waiting", "locked out", {}, None)
    run.mark_begun()
    uploader.start()
    run.metrics({"image_auroc": 0.5})
    assert not uploader.finish(3)
    assert "locked" in uploader.trouble
    lock.rollback()
    lock.close()
    assert uploader.finish(30)
    uploader.stop()
    (found,) = logged()
    assert found.data.metrics == {"image_auroc": 0.5}
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("cannot take" in record.message for record in warnings) == 1
    assert str(run.path) in caplog.text
    assert "answers again" in caplog.text


@pytest.mark.long
def test_a_run_that_ends_as_mlflow_answers_again_waits_for_slow_records(tmp_path, destination, monkeypatch):
    run, uploader = begin_run(destination, tmp_path / "waiting", "slow", {}, None)
    run.mark_begun()
    run.parameters({"seed": 0})
    run.tags({"commit": "abc"})
    run.metrics({"image_auroc": 0.5})
    answers = iter([False])

    def log(self, run, kind, items):
        if not next(answers, True):
            raise ConnectionError("away")
        time.sleep(1.5)  # less than the patience, which all of them together are more than

    monkeypatch.setattr("kdad.tracking.writer.MlflowWriter._log", log)
    monkeypatch.setattr(uploading, "_RETRY", 600)
    uploader.start()
    while uploader.trouble is None:
        time.sleep(0.02)
    assert uploader.finish(3)
    assert uploader.trouble is None
    uploader.stop()


@pytest.mark.sample(1)
@pytest.mark.parametrize("computes", [True, False])
def test_what_computes_is_waited_for_and_what_is_silent_is_not(tmp_path, destination, monkeypatch, computes):
    run, uploader = begin_run(destination, tmp_path / "waiting", "busy", {}, None)
    run.mark_begun()

    def log(self, run, kind, items):
        until = time.monotonic() + 4
        while time.monotonic() < until:
            time.sleep(0.0 if computes else 4.0)

    monkeypatch.setattr("kdad.tracking.writer.MlflowWriter._log", log)
    uploader.start()
    assert uploader.wait(lambda: run.experiment is not None, 30)
    run.tags({"commit": "abc"})
    assert uploader.finish(2) is computes
    uploader.stop(10)


def test_what_an_earlier_run_has_left_is_sent_before_the_end(tmp_path, destination, logged):
    left, _ = begin_run(destination, tmp_path / "waiting", "earlier", {}, None)
    left.mark_begun()
    left.end("FAILED")
    left.give_up()
    run, uploader = begin_run(destination, tmp_path / "waiting", "later", {}, None)
    run.mark_begun()
    run.end("FINISHED")
    assert uploader.finish(30)
    uploader.stop()
    assert {one.info.run_name: one.info.status for one in logged()} == {"earlier": "FAILED", "later": "FINISHED"}
    assert not left.path.exists()


def test_the_end_of_a_run_asks_a_server_that_is_away_once_more(tmp_path, monkeypatch):
    elsewhere = Destination("http://127.0.0.1:1", "kdad", None)
    monkeypatch.setattr(uploading, "_RETRY", 600)
    run, uploader = begin_run(elsewhere, tmp_path / "waiting", "away", {}, None)
    run.mark_begun()
    uploader.start()
    while uploader.trouble is None:
        time.sleep(0.02)
    began = time.monotonic()
    assert not uploader.finish(600)
    assert time.monotonic() - began < 60
    uploader.stop()


def test_the_machines_use_is_logged_while_the_run_goes_on_and_no_longer(tmp_path, destination, logged, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run, uploader = begin_run(destination, tmp_path / "waiting", "measured", {}, None)
    uploader.system_metrics = True
    run.mark_begun()
    uploader.start()
    wanted = {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"}
    deadline = time.monotonic() + 60
    while not (logged() and wanted <= logged()[0].data.metrics.keys()) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.end("FINISHED")
    assert uploader.finish(30)
    uploader.stop()
    (found,) = logged()
    assert wanted <= found.data.metrics.keys()
    assert found.info.status == "FINISHED"
    assert not [thread for thread in threading.enumerate() if "SystemMetrics" in thread.name]
