"""A signal ends a block, also when the first exception is lost."""

import os
import signal
import threading
import time
import weakref

import pytest

from kdad.project import interruption
from kdad.project.interruption import RaiseOnSignal, StopRequested


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
    monkeypatch.setattr(interruption, "_PATIENCE", 0.1)
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
    monkeypatch.setattr(interruption, "_PATIENCE", 0.1)
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
