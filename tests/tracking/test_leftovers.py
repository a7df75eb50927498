"""The next run settles what an earlier process has left."""

import json
import subprocess
import sys

import psutil
import pytest

from kdad.tracking.delivery import Delivery
from kdad.tracking.destination import Destination
from kdad.tracking.leftovers import close_left_runs
from kdad.tracking.run import begin_run
from kdad.tracking.spool import Spool

_DIES = """
import json, os, signal, sys
from pathlib import Path
from kdad.tracking.delivery import Delivery
from kdad.tracking.destination import Destination
from kdad.tracking.run import begin_run
destination = Destination(**json.loads(sys.argv[1]))
run, _ = begin_run(destination, Path(sys.argv[2]), "killed", {}, None)
run.spool.mark_begun()
Delivery(destination).deliver(run.spool)
child = run.child("its case", {})
run.metrics({"loss": 1.0})
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(destination: Destination, waiting) -> Spool:
    arguments = [sys.executable, "-c", _DIES, json.dumps(destination.plain()), str(waiting)]
    assert subprocess.run(arguments, check=False).returncode == -9
    (spool,) = Spool.find(waiting)
    return spool


def test_a_killed_run_and_its_children_are_closed_and_what_waited_is_sent(tmp_path, destination, logged):
    spool = _killed(destination, tmp_path / "waiting")
    assert [run.info.status for run in logged()] == ["RUNNING"]
    assert spool.is_orphan
    last = int(spool.last_written() * 1000)
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 1
    found = {run.info.run_name: run for run in logged()}
    assert {name: run.info.status for name, run in found.items()} == {"killed": "KILLED", "its case": "KILLED"}
    assert found["killed"].info.end_time == last
    assert found["killed"].data.metrics == {"loss": 1.0}
    assert not spool.folder.exists()
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0


def test_a_living_run_is_left_alone(tmp_path, destination, logged):
    run, _ = begin_run(destination, tmp_path / "waiting", "alive", {}, None)
    run.spool.mark_begun()
    assert not run.spool.is_orphan
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0
    assert run.spool.folder.exists()
    assert logged() == []


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "long ago", {}, None)
    head = run.spool.folder / "head.json"
    facts = json.loads(head.read_text())
    assert facts["owner"]["began"] == psutil.Process().create_time()
    facts["owner"]["began"] -= 100
    head.write_text(json.dumps(facts))
    assert run.spool.is_orphan
    facts["owner"]["host"] = "another"
    head.write_text(json.dumps(facts))
    assert not run.spool.is_orphan  # what cannot be seen from here is thought to live


def test_what_goes_elsewhere_stays(tmp_path, destination):
    elsewhere = Destination(destination.uri, "another experiment", destination.artifacts)
    spool = _killed(elsewhere, tmp_path / "waiting")
    assert close_left_runs(tmp_path / "waiting", Delivery(destination)) == 0
    assert spool.folder.exists()


@pytest.mark.long
@pytest.mark.parametrize("begun", [True, False])
def test_the_command_that_sends_what_waits(tmp_path, destination, logged, begun):
    spool = _killed(destination, tmp_path / "waiting")
    if not begun:
        (spool.folder / "begun").unlink()
    command = [sys.executable, "-m", "kdad.tracking", str(tmp_path / "waiting")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert destination.uri in said
    assert logged()[0].info.status == ("KILLED" if begun else "RUNNING")
    assert not spool.folder.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nothing waits" in again
