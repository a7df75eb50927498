"""Folders and files take their place whole, or leave what was there."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from interruptions import swap_killed
from kdad.errors import InputError
from kdad.storage.replacing import (
    ProcessLock,
    flush_to_disk,
    is_taken,
    link_or_copy,
    one_at_a_time,
    put_back,
    replace_text,
    replacing,
)

_HOLDER = """
import sys, time
from pathlib import Path
from kdad.storage.replacing import ProcessLock

lock = ProcessLock(Path(sys.argv[1]))
print(lock.take(wait=False), flush=True)
time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path) -> ProcessLock:
    """A lock in a folder that is not there yet."""
    return ProcessLock(tmp_path / "new/place.lock")


@pytest.fixture
def hold(lock):
    """Have another process try to take the lock, and stay; return it and whether it was given the lock."""
    running = []

    def start() -> tuple[subprocess.Popen, bool]:
        process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock.path)], stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process, process.stdout.readline() == "True\n"

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_one_process_holds_it_and_others_are_told_which(lock, hold):
    other, taken = hold()
    assert taken
    assert not lock.take(wait=False)
    assert lock.holder().startswith(f"process {other.pid} (`python")
    assert "since 20" in lock.holder()
    assert len(lock.holder()) < 300  # its command is a program's whole text


def test_it_is_free_when_its_process_was_killed(lock, hold):
    other, _ = hold()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock.take(wait=False)
    assert lock.holder().startswith(f"process {os.getpid()} (")


def test_it_may_be_taken_again_once_it_is_free(lock):
    second = ProcessLock(lock.path)
    assert lock.take(wait=False)
    assert not second.take(wait=False)
    second.free()  # it holds nothing
    assert not second.take(wait=False)
    lock.free()
    assert list(lock.path.parent.iterdir()) == []
    assert second.take(wait=False)


def test_a_worker_neither_holds_nor_frees_it(lock, hold):
    lock.take(wait=False)
    worker = os.fork()
    if worker == 0:
        lock.free()
        os._exit(0)
    os.waitpid(worker, 0)
    assert hold()[1] is False
    assert lock.path.exists()


def test_what_a_killed_process_said_is_not_said_of_the_next(lock, hold):
    other, _ = hold()
    other.kill()
    other.wait()
    assert lock.holder() == "another process"
    lock.path.write_text("")
    assert lock.holder() == "another process"


def test_a_lock_held_for_a_while_leaves_no_file_and_is_taken_from_a_killed_process(lock, hold):
    other, _ = hold()
    other.kill()
    other.wait()
    with one_at_a_time(lock.path, "it"):
        assert lock.path.exists()
        assert not lock.take(wait=False)
    assert list(lock.path.parent.iterdir()) == []


def test_a_folder_of_someone_else_is_an_input_error(lock, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(lock._lock, "acquire", refuse)
    with pytest.raises(InputError, match=r"place\.lock' may not be written; use a folder, or a checkout, of your own"):
        lock.take(wait=False)


def test_a_disk_that_knows_no_locks_lets_pass_with_a_warning(lock, monkeypatch, caplog):
    def refuse(**_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock._lock, "acquire", refuse)
    assert lock.take(wait=False)
    assert "knows no locks: run one process at a time there" in caplog.text
    lock.free()


@pytest.fixture
def kept(tmp_path):
    """Make a folder with one file."""
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "old").write_text("old")
    return folder


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_all_that_was_there(kept):
    with replacing(kept) as partial:
        assert partial.is_dir()
        assert names(kept) == ["old"]
        (partial / "new").touch()
    assert names(kept) == ["new"]
    assert names(kept.parent) == ["kept"]


def test_what_is_not_there_yet_is_made_with_the_folders_above_it(tmp_path):
    with replacing(tmp_path / "a/b/new") as partial:
        (partial / "file").touch()
    assert names(tmp_path / "a/b/new") == ["file"]


def test_what_a_killed_process_left_does_not_come_along(kept):
    left = kept.with_name("kept.partial")
    left.mkdir()
    (left / "half").touch()
    with replacing(kept) as partial:
        (partial / "new").touch()
    assert names(kept) == ["new"]


def test_a_failure_while_filling_leaves_what_was_there(kept):
    with pytest.raises(KeyboardInterrupt), replacing(kept) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert names(kept) == ["old"]
    assert names(kept.parent) == ["kept"]


def test_a_failure_while_swapping_puts_back_what_was_there(kept, monkeypatch):
    rename = os.replace

    def fail(source, target):
        if os.fspath(source).endswith(".partial"):
            raise OSError("the disk is gone")
        rename(source, target)

    monkeypatch.setattr("kdad.storage.replacing.os.replace", fail)
    with pytest.raises(OSError, match="the disk is gone"), replacing(kept):
        pass
    assert names(kept) == ["old"]
    assert names(kept.parent) == ["kept"]


def test_text_is_written_as_utf_8_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "new/page.html"
    replace_text(path, "ä")
    replace_text(path, "ö")
    assert path.read_bytes() == b"\xc3\xb6"
    assert names(path.parent) == ["page.html"]


def test_a_place_is_taken_by_anything_without_the_mark(kept, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert is_taken(kept, "mark")
    assert is_taken(kept / "old", "mark")
    assert not is_taken(kept, "old")
    assert not is_taken(empty, "mark")
    assert not is_taken(tmp_path / "none", "mark")


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_gets_a_second_name_or_a_copy(kept, monkeypatch, can_link):
    def refuse(*_):
        raise OSError("another disk")

    if not can_link:
        monkeypatch.setattr("kdad.storage.replacing.os.link", refuse)
    source, target = kept / "old", kept / "second"
    assert link_or_copy(source, target) == target
    assert target.read_text() == "old"
    assert target.samefile(source) is can_link


def swap_whole(folder):
    """Replace a folder by one with a file ``new``."""
    with replacing(folder) as partial:
        (partial / "new").touch()


def test_what_a_killed_swap_had_set_aside_is_put_back(kept, monkeypatch):
    with swap_killed(monkeypatch):
        swap_whole(kept)
    assert names(kept.parent) == ["kept.older"]
    put_back(kept)
    assert names(kept.parent) == ["kept"]
    assert names(kept) == ["old"]
    put_back(kept)  # there is nothing to do
    assert names(kept) == ["old"]


def test_a_failure_after_a_killed_swap_does_not_cost_the_older_folder(kept, monkeypatch):
    with swap_killed(monkeypatch):
        swap_whole(kept)
    with pytest.raises(OSError, match="the disk is gone"), replacing(kept):
        raise OSError("the disk is gone")
    assert names(kept) == ["old"]
    assert names(kept.parent) == ["kept"]


_REPLACER = """
import sys
from pathlib import Path
from kdad.storage.replacing import flush_to_disk, is_taken, link_or_copy, put_back, replace_text, replacing

with replacing(Path(sys.argv[1])) as partial:
    (partial / "first").touch()
    print("begun", flush=True)
    sys.stdin.readline()
    (partial / "second").touch()
"""


def test_two_processes_replace_a_folder_one_after_the_other(kept, monkeypatch):
    command = [sys.executable, "-c", _REPLACER, str(kept)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "begun\n"
    said = []

    def wait_said(*line):
        said.append(line)
        assert names(kept) == ["old"]
        other.stdin.write("go on\n")
        other.stdin.flush()

    monkeypatch.setattr("kdad.storage.replacing.logger.info", wait_said)
    with replacing(kept) as partial:
        assert names(kept) == ["first", "second"]
        assert names(partial) == []
        (partial / "mine").touch()
    other.communicate()
    assert other.returncode == 0
    assert len(said) == 1
    assert names(kept) == ["mine"]
    assert names(kept.parent) == ["kept"]


def test_what_is_flushed_may_hold_folders_and_links_that_lead_nowhere(kept):
    (kept / "more").mkdir()
    (kept / "link").symlink_to("nowhere")
    flush_to_disk(kept)
    assert names(kept) == ["link", "more", "old"]
