import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest
from kedro.pipeline import Node, Pipeline

from kdad.project import command_line
from kdad.project.command_line import (
    CommandLineError,
    ExitCode,
    RaiseOnSignal,
    StopRequested,
    check_choices,
    check_runner,
    check_some_node,
    names_of,
)
from projects import copy_project


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        # Refused when parameters are bound, and by a node.
        ("dataset.imagesize=64", "unknown parameter 'imagesize'; did you mean 'image_size'"),
        pytest.param("source.weights=nowhere.safetensors", "nowhere.safetensors", marks=pytest.mark.long),
    ],
)
def test_an_error_is_its_message_alone(tmp_path, migrated_database, parameters, message):
    project = copy_project(tmp_path / "project", migrated_database)
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--params={parameters}"]
    found = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert found.returncode != 0
    _, _, said = found.stderr.partition("Error: ")
    assert message in said
    assert "NoneType" not in found.stdout + found.stderr
    assert "Traceback" not in said


def _same(data, setting):
    return data


PIPELINE = Pipeline(
    [
        Node(_same, ["images", "params:seed"], "table", name="validate_images", tags="training"),
        Node(_same, ["table", "params:seed"], "loss.both.result", name="run_case", namespace="loss.both"),
    ]
)


def test_names_of_a_pipeline():
    assert names_of(PIPELINE) == {
        "node": {"validate_images", "loss.both.run_case"},
        "tag": {"training"},
        "namespace": {"loss", "loss.both"},
        "data set": {"images", "table", "loss.both.result"},
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"node_names": ("validate_images",), "tags": (), "namespaces": []},
        {"namespaces": ["loss.both"], "to_outputs": ["table"]},
    ],
)
def test_what_there_is_can_be_chosen(options):
    check_choices(PIPELINE, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node_names": ("validate_image",)}, "--nodes: there is no node 'validate_image'; did you mean 'validate_im"),
        ({"from_nodes": ["split"]}, "--from-nodes: there is no node 'split'; known: loss.both.run_case, validate_im"),
        ({"tags": ("trainig",)}, r"--tags: there is no tag 'trainig'; did you mean 'training'\?"),
        ({"namespaces": ["los"]}, r"--namespaces: there is no namespace 'los'; did you mean 'loss'\?"),
        ({"to_outputs": ["tables"]}, r"--to-outputs: there is no data set 'tables'; did you mean 'table'\?"),
        ({"from_inputs": ["image"]}, r"--from-inputs: there is no data set 'image'; did you mean 'images'\?"),
        ({"tags": ("a",), "to_nodes": ["b"]}, r"(?s)--to-nodes: there is no node 'b'.*--tags: there is no tag 'a'"),
    ],
)
def test_what_there_is_not_is_named_with_the_nearest(options, message):
    with pytest.raises(CommandLineError, match=message) as caught:
        check_choices(PIPELINE, options)
    assert caught.value.exit_code == ExitCode.WRONG_COMMAND


def test_a_pipeline_without_namespaces_says_so():
    with pytest.raises(CommandLineError, match="there is no namespace 'loss'; there is none"):
        check_choices(PIPELINE.filter(tags=["training"]), {"namespaces": ["loss"]})


def test_choices_that_leave_nothing_are_all_named():
    options = {"tags": ("training",), "node_names": ("loss.both.run_case",)}
    with pytest.raises(ValueError, match="no nodes") as kedros:
        PIPELINE.filter(**options)
    with pytest.raises(CommandLineError, match=r"has all of --nodes=loss\.both\.run_case --tags=training; leave"):
        check_some_node(options, kedros.value)
    check_some_node(options, ValueError("something else"))


@pytest.mark.parametrize("name", [None, "ThreadRunner", "my.module.Runner"])
def test_runners_that_there_may_be(name):
    check_runner(name)


def test_a_runner_that_there_is_not():
    with pytest.raises(CommandLineError, match=r"no runner 'ThredRunner'; did you mean 'ThreadRunner'\?"):
        check_runner("ThredRunner")


class _Thing:
    pass


def _lose(number: int) -> None:
    """Send a signal while a weak reference's callback runs, where Python drops what is raised."""
    thing = _Thing()
    reference = weakref.ref(thing, lambda _: (os.kill(os.getpid(), number), time.sleep(0.05)))
    del thing
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_whose_exception_is_lost_comes_again(monkeypatch, number, error):
    monkeypatch.setattr(command_line, "_PATIENCE", 0.1)
    with pytest.raises(error), RaiseOnSignal():
        _lose(number)
        time.sleep(5)
        pytest.fail("nothing came")


def test_sigterm_has_the_exit_code_of_shells():
    with pytest.raises(SystemExit) as caught, RaiseOnSignal():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert caught.value.code == 143


def test_after_the_block_nothing_comes_and_handlers_are_as_before(monkeypatch):
    monkeypatch.setattr(command_line, "_PATIENCE", 0.1)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), RaiseOnSignal():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    time.sleep(0.3)  # a timer that was left would interrupt here
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with RaiseOnSignal():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_and_the_second_acts(number):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with StopRequested() as end:
            assert not end.requested
            os.kill(os.getpid(), number)
            assert end.requested and heard == []
            os.kill(os.getpid(), number)
            assert heard == [number]
        os.kill(os.getpid(), number)
        assert heard == [number, number]
    finally:
        signal.signal(number, before)
