"""A lock is of one process, whatever becomes of it and its workers, and says which."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from kdad.errors import InputError
from kdad.storage.process_lock import ProcessLock, one_at_a_time

_HOLDER = """
import sys, time
from pathlib import Path
from kdad.storage.process_lock import ProcessLock

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
