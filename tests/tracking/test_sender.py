"""Records are sent while a run goes on; a destination that does not answer is told of once."""

import logging
import sqlite3

import pytest

from kdad.tracking import sender as sending
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
