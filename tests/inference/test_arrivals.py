"""Files are taken when they are complete, each once, in that order; seen by the system's events and by polling."""

import builtins
import os
import time
from pathlib import Path

import pytest

from kdad.errors import InputError
from kdad.inference import arrivals as module
from kdad.inference.arrivals import IncomingFiles
from kdad.inference.parameters import WatchingParameters


@pytest.fixture(params=[False, True], ids=["events", "polling"])
def start(request, tmp_path):
    """Begin to watch the test's folder; what is done may be given."""
    begun = []

    def watch(done=None, **parameters) -> IncomingFiles:
        chosen = {"polling": request.param, "poll_seconds": 0.02, "settle_seconds": 0.1} | parameters
        begun.append(IncomingFiles(tmp_path, {} if done is None else done, WatchingParameters(**chosen)))
        return begun[-1]

    yield watch
    for found in begun:
        found.close()


def _take(arrivals: IncomingFiles, count: int, seconds: float = 5, finish: bool = True) -> list[str]:
    """Take files until so many have come; fails when they do not."""
    names, until = [], time.monotonic() + seconds
    while len(names) < count:
        assert time.monotonic() < until, names
        for found in arrivals.take(3):
            names.append(found.name)
            if finish:
                arrivals.finish(found)
    return names


def _none(arrivals: IncomingFiles, seconds: float = 0.3) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if arrivals.take(3):
            return False
    return True


def _write(path: Path, content: bytes = b"x", seconds: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if seconds is not None:
        os.utime(path, (seconds, seconds))
    return path


def test_what_is_there_already_comes_by_the_time_of_writing(tmp_path, start):
    for name, seconds in (("c.png", 1000), ("a.png", 3000), ("sub/b.JPG", 2000)):
        _write(tmp_path / name, seconds=seconds)
    assert _take(start(), 3) == ["c.png", "sub/b.JPG", "a.png"]


def test_what_comes_later_comes_in_its_order_and_once(tmp_path, start):
    arrivals = start()
    assert _none(arrivals, 0.1)
    names = []
    for name in ("z.png", "m.png", "a.png"):
        _write(tmp_path / name)
        names += _take(arrivals, 1)
    assert names == ["z.png", "m.png", "a.png"]
    assert _none(arrivals)


def test_a_file_is_not_taken_while_it_is_written(tmp_path, start):
    arrivals = start(settle_seconds=0.3)
    with (tmp_path / "slow.png").open("wb", buffering=0) as file:
        for _ in range(6):
            file.write(b"part")
            assert _none(arrivals, 0.1)
        size = file.tell()
    (found,) = [one for one in _until(arrivals) if one.name == "slow.png"]
    assert found.stamp[0] == size == 24


def _until(arrivals: IncomingFiles) -> list:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if found := arrivals.take(3):
            return found
    raise AssertionError("nothing came")


def test_a_file_that_is_moved_in_comes(tmp_path, start, tmp_path_factory):
    arrivals = start()
    _none(arrivals, 0.1)
    elsewhere = _write(tmp_path_factory.mktemp("elsewhere") / "moved.png")
    elsewhere.rename(tmp_path / "moved.png")
    (tmp_path / "hidden").mkdir()
    _write(tmp_path / "hidden/.part.png").rename(tmp_path / "hidden/part.png")
    assert sorted(_take(arrivals, 2)) == ["hidden/part.png", "moved.png"]


def test_a_closed_file_need_not_settle(tmp_path):
    arrivals = IncomingFiles(tmp_path, {}, WatchingParameters(settle_seconds=60))
    try:
        _none(arrivals, 0.1)
        _write(tmp_path / "closed.png")
        assert _take(arrivals, 1) == ["closed.png"]
    finally:
        arrivals.close()


def test_what_is_no_image_hidden_or_a_mask_never_comes(tmp_path, start):
    arrivals = start()
    for name in ("notes.txt", ".hidden.png", ".folder/a.png", "ground_truth/torn/a.png", "a.png.part"):
        _write(tmp_path / name)
    _write(tmp_path / "real.png")
    assert _take(arrivals, 1) == ["real.png"]
    assert _none(arrivals)


def test_what_is_done_comes_again_only_when_it_is_written_again(tmp_path, start):
    path = _write(tmp_path / "a.png", seconds=1000)
    arrivals = start({"a.png": (1, 1000 * 10**9)})
    assert _none(arrivals)
    _write(path, b"other")
    assert _take(arrivals, 1) == ["a.png"]


def test_a_file_that_was_written_while_it_was_looked_at_comes_again(tmp_path, start):
    path, arrivals = _write(tmp_path / "a.png"), start()
    (found,) = _until(arrivals)
    _write(path, b"longer")
    assert arrivals.stamp_of(path) != found.stamp
    arrivals.put_back(found)
    (again,) = _until(arrivals)
    assert again.stamp[0] == 6


def test_a_file_that_is_gone_is_forgotten(tmp_path, start):
    arrivals = start(settle_seconds=0.3)
    path = _write(tmp_path / "a.png")
    arrivals.take(1)
    path.unlink()
    assert _none(arrivals) and arrivals.waiting == 0
    assert arrivals.stamp_of(path) is None and arrivals.stamp_of(tmp_path) is None


def test_an_unreadable_file_is_tried_once_more(tmp_path, start):
    path, arrivals = _write(tmp_path / "a.png"), start(patience_seconds=0.3)
    (found,) = _until(arrivals)
    before = time.monotonic()
    assert arrivals.try_again(found)
    (again,) = _until(arrivals)
    assert time.monotonic() - before >= 0.3 and again == found
    assert not arrivals.try_again(again)
    arrivals.finish(again)
    _write(path, b"whole")
    (whole,) = _until(arrivals)
    assert arrivals.try_again(whole)


def test_no_more_wait_than_are_known_and_none_is_lost(tmp_path, start, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    for number in range(23):
        _write(tmp_path / f"{number:02}.png", seconds=1000 + number)
    arrivals, names = start(), []
    until = time.monotonic() + 10
    while len(names) < 23 and time.monotonic() < until:
        assert arrivals.waiting <= 5
        for found in arrivals.take(2):
            names.append(found.name)
            arrivals.finish(found)
    assert names == [f"{number:02}.png" for number in range(23)]


def test_events_that_are_lost_are_found_by_looking(tmp_path, monkeypatch):
    monkeypatch.setattr("kdad.inference.arrivals._MOST_EVENTS", 3)
    arrivals = IncomingFiles(tmp_path, {}, WatchingParameters(settle_seconds=0.1))
    try:
        _none(arrivals, 0.1)
        for number in range(40):
            _write(tmp_path / f"{number:02}.png")
        time.sleep(0.3)
        assert sorted(_take(arrivals, 40)) == [f"{number:02}.png" for number in range(40)]
    finally:
        arrivals.close()


def test_without_watchdog_the_message_says_what_to_install(tmp_path, monkeypatch):
    original = builtins.__import__

    def missing(name, *arguments, **named):
        if name.startswith("watchdog"):
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r'pip install "kdad\[watch\]"`, or set inference.watching.polling=true'):
        IncomingFiles(tmp_path, {}, WatchingParameters())
    IncomingFiles(tmp_path, {}, WatchingParameters(polling=True)).close()
