"""The next run settles what an earlier process has left."""

import json
import subprocess
import sys

import psutil
import pytest

from kdad.tracking.destination import Destination
from kdad.tracking.run import TrackedRun, runs_in
from kdad.tracking.uploader import begin_run, write_left_runs
from kdad.tracking.writer import MlflowWriter

_DIES = """
import json, os, signal, sys
from pathlib import Path
from kdad.tracking.writer import MlflowWriter
from kdad.tracking.destination import Destination
from kdad.tracking.uploader import begin_run
destination = Destination(**json.loads(sys.argv[1]))
run, _ = begin_run(destination, Path(sys.argv[2]), "killed", {}, None)
run.mark_begun()
MlflowWriter(destination).write(run)
child = run.child("its case", {})
run.metrics({"loss": 1.0})
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(destination: Destination, waiting) -> TrackedRun:
    arguments = [sys.executable, "-c", _DIES, json.dumps(destination.plain()), str(waiting)]
    assert subprocess.run(arguments, check=False).returncode == -9
    (folder,) = runs_in(waiting)
    return folder


def test_a_killed_run_and_its_children_are_closed_and_what_waited_is_sent(tmp_path, destination, logged):
    folder = _killed(destination, tmp_path / "waiting")
    assert [run.info.status for run in logged()] == ["RUNNING"]
    assert folder.is_orphan
    last = max(int(path.stat().st_mtime * 1000) for path in folder.path.rglob("*.jsonl"))
    assert write_left_runs(tmp_path / "waiting", MlflowWriter(destination)) == 1
    found = {run.info.run_name: run for run in logged()}
    assert {name: run.info.status for name, run in found.items()} == {"killed": "KILLED", "its case": "KILLED"}
    assert found["killed"].info.end_time == last
    assert found["killed"].data.metrics == {"loss": 1.0}
    assert not folder.path.exists()
    assert write_left_runs(tmp_path / "waiting", MlflowWriter(destination)) == 0


def test_a_living_run_is_left_alone(tmp_path, destination, logged):
    run, _ = begin_run(destination, tmp_path / "waiting", "alive", {}, None)
    run.mark_begun()
    assert not run.is_orphan
    assert write_left_runs(tmp_path / "waiting", MlflowWriter(destination)) == 0
    assert run.path.exists()
    assert logged() == []


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "long ago", {}, None)
    head = run.path / "run.json"
    facts = json.loads(head.read_text())
    assert facts["owner"]["began"] == psutil.Process().create_time()
    facts["owner"]["began"] -= 100
    head.write_text(json.dumps(facts))
    assert run.is_orphan
    facts["owner"]["host"] = "another"
    head.write_text(json.dumps(facts))
    assert not run.is_orphan  # what cannot be seen from here is thought to live


def test_a_run_that_was_given_up_is_written_by_the_next_one_of_the_same_process(tmp_path, destination, logged):
    run, _ = begin_run(destination, tmp_path / "waiting", "given up", {}, None)
    run.fail("InputError: torn")
    run.end("FAILED")
    run.give_up()
    assert write_left_runs(tmp_path / "waiting", MlflowWriter(destination)) == 1
    assert [(one.info.status, one.data.tags["error"]) for one in logged()] == [("FAILED", "InputError: torn")]
    assert not run.path.exists()


def test_what_is_torn_costs_no_other_line(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "torn", {}, None)
    run.tags({"before": 1})
    with (run.path / "tags.jsonl").open("a") as file:
        file.write('["half of a na')
    assert run.lines("tags")[0] == [["before", "1"]]
    _, place = run.lines("tags")
    run.tags({"after": 2})
    assert run.lines("tags", place)[0] == [["after", "2"]]


_APPENDS = """
import sys
from pathlib import Path
from kdad.tracking.run import TrackedRun
run = TrackedRun(Path(sys.argv[1]))
for step in range(200):
    run.series([(f"{sys.argv[2]}.{number}", 0.5, 1, step) for number in range(20)])
"""


def test_processes_append_at_the_same_time(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "several", {}, None)
    names = ("a", "b", "c")
    command = [sys.executable, "-c", _APPENDS, str(run.path)]
    processes = [subprocess.Popen([*command, name]) for name in names]
    assert [process.wait() for process in processes] == [0, 0, 0]
    lines, _ = run.lines("metrics")
    expected = {(f"{name}.{number}", step) for name in names for number in range(20) for step in range(200)}
    assert len(lines) == len(expected)
    assert {(name, step) for name, _, _, step in lines} == expected


def test_a_point_of_a_series_is_kept_once(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "losses", {}, None)
    run.series([("loss", 3.0, 1000, 0)])
    run.series([("loss", 3.0, 2000, 0), ("loss", 2.0, 2000, 1)])  # the history, when the training has ended
    assert run.lines("metrics")[0] == [["loss", 3.0, 1000, 0], ["loss", 2.0, 2000, 1]]


def test_a_run_ends_once_with_the_children_that_are_open(tmp_path, destination):
    run, _ = begin_run(destination, tmp_path / "waiting", "parent", {}, None)
    done, opened = run.child("done", {}), run.child("opened", {})
    done.end("FINISHED")
    run.end("KILLED")
    run.end("FINISHED")
    assert [one.status["status"] for one in (done, opened, run)] == ["FINISHED", "KILLED", "KILLED"]


def test_what_goes_elsewhere_stays(tmp_path, destination):
    elsewhere = Destination(destination.uri, "another experiment", destination.artifacts)
    folder = _killed(elsewhere, tmp_path / "waiting")
    assert write_left_runs(tmp_path / "waiting", MlflowWriter(destination)) == 0
    assert folder.path.exists()


@pytest.mark.long
@pytest.mark.parametrize("begun", [True, False])
def test_the_command_that_sends_what_waits(tmp_path, destination, logged, begun):
    folder = _killed(destination, tmp_path / "waiting")
    if not begun:
        (folder.path / "nodes.jsonl").unlink()
    command = [sys.executable, "-m", "kdad.tracking", str(tmp_path / "waiting")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert destination.uri in said
    assert logged()[0].info.status == ("KILLED" if begun else "RUNNING")
    assert not folder.path.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nothing waits" in again
