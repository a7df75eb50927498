"""Records are sent while a run goes on; a destination that does not answer is told of once."""

import logging
import sqlite3
import threading
import time

import pytest

from kdad.tracking import sender as sending
from kdad.tracking.destination import Destination
from kdad.tracking.run import begin_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sending, "_RETRY", 0.1)
    monkeypatch.setattr(sending, "_PAUSE", 0.05)
    caplog_level = logging.getLogger("kdad").level
    logging.getLogger("kdad").setLevel(logging.INFO)
    yield
    logging.getLogger("kdad").setLevel(caplog_level)


def test_a_run_of_which_nothing_ran_is_not_sent(tmp_path, destination, logged):
    run, sender = begin_run(destination, tmp_path / "waiting", "idle", {}, None)
    sender.start()
    sender.stop()
    assert logged() == []
    assert not run.spool.is_empty


def test_records_are_sent_in_the_background(tmp_path, destination, logged):
    run, sender = begin_run(destination, tmp_path / "waiting", "busy", {}, None)
    run.spool.mark_begun()
    sender.start()
    identity = run.identity(patience=30)
    assert identity != run.key
    run.end("FINISHED")
    assert sender.flush(30)
    sender.stop()
    assert [(one.info.run_id, one.info.status) for one in logged()] == [(identity, "FINISHED")]


def test_a_locked_database_costs_nothing_and_is_said_once(tmp_path, destination, logged, caplog, monkeypatch):
    lock = sqlite3.connect(destination.database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("kdad.tracking.destination._SECONDS", 0.1)
    run, sender = begin_run(destination, tmp_path / "waiting", "locked out", {}, None)
    run.spool.mark_begun()
    sender.start()
    run.metrics({"image_auroc": 0.5})
    assert not sender.flush(3)
    assert "locked" in sender.trouble
    lock.rollback()
    lock.close()
    assert sender.flush(30)
    sender.stop()
    (found,) = logged()
    assert found.data.metrics == {"image_auroc": 0.5}
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("cannot take" in record.message for record in warnings) == 1
    assert str(run.spool.folder) in caplog.text
    assert "answers again" in caplog.text


def test_a_run_that_ends_as_mlflow_answers_again_waits_for_slow_records(tmp_path, destination, monkeypatch):
    run, sender = begin_run(destination, tmp_path / "waiting", "slow", {}, None)
    run.spool.mark_begun()
    for _ in range(3):
        run.metrics({"image_auroc": 0.5})
    answers = iter([False])

    def send(self, spool, record):
        if not next(answers, True):
            raise ConnectionError("away")
        time.sleep(1.5)  # more than a moment, less than the patience

    monkeypatch.setattr("kdad.tracking.delivery.Delivery._send", send)
    monkeypatch.setattr(sending, "_RETRY", 600)
    sender.start()
    while sender.trouble is None:
        time.sleep(0.02)
    assert sender.flush(60)
    assert sender.trouble is None
    sender.stop()


def test_the_end_of_a_run_asks_a_server_that_is_away_once_more(tmp_path, monkeypatch):
    elsewhere = Destination("http://127.0.0.1:1", "kdad", None)
    monkeypatch.setattr(sending, "_RETRY", 600)
    run, sender = begin_run(elsewhere, tmp_path / "waiting", "away", {}, None)
    run.spool.mark_begun()
    sender.start()
    while sender.trouble is None:
        time.sleep(0.02)
    began = time.monotonic()
    assert not sender.flush(600)
    assert time.monotonic() - began < 60
    sender.stop()


def test_the_machines_use_is_logged_while_the_run_goes_on_and_no_longer(tmp_path, destination, logged, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run, sender = begin_run(destination, tmp_path / "waiting", "measured", {}, None)
    sender.system_metrics = True
    run.spool.mark_begun()
    sender.start()
    wanted = {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"}
    deadline = time.monotonic() + 60
    while not (logged() and wanted <= logged()[0].data.metrics.keys()) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.end("FINISHED")
    assert sender.flush(30)
    sender.stop()
    (found,) = logged()
    assert wanted <= found.data.metrics.keys()
    assert found.info.status == "FINISHED"
    assert not [thread for thread in threading.enumerate() if "SystemMetrics" in thread.name]
