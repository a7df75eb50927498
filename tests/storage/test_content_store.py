"""None"""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kdad.errors import InputError
from kdad.storage import content_store
from kdad.storage.content_store import ContentStore, content_key, find_damage, sha256_of, write_checksums


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed from now on."""
    names = []
    real = content_store.sha256_of

    def note(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(content_store, "sha256_of", note)
    return names


@pytest.fixture
def folder(tmp_path):
    """A folder with a small and a large file, where a large one has more than 50 bytes."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "deep/large").write_bytes(bytes(100))
    return tmp_path


def test_the_hash_of_abc_is_that_of_the_standard(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_every_file_is_listed_but_the_one_that_passes(folder):
    (folder / "training.checkpoint").touch()
    write_checksums(folder, passing="training.checkpoint")
    listed = json.loads((folder / "checksums.json").read_text())
    assert list(listed) == ["deep/large", "small"]
    assert listed["small"]["bytes"] == 5
    assert listed["small"]["sha256"] == hashlib.sha256(b"12345").hexdigest()
    (folder / "training.checkpoint").unlink()
    assert find_damage(folder) is None


def test_a_file_is_hashed_once_a_process_and_again_when_it_was_touched(folder, hashed):
    write_checksums(folder)
    hashed.clear()
    assert find_damage(folder) is find_damage(folder) is None
    assert hashed == ["large", "small"]
    os.utime(folder / "small", ns=(0, 0))  # a clock that was set back is another time, too
    assert find_damage(folder) is None
    assert hashed == ["large", "small", "small"]


def test_a_large_file_is_hashed_only_where_its_time_is_another_than_when_it_was_made(folder, hashed, monkeypatch):
    monkeypatch.setattr(content_store, "_LARGE", 50)
    write_checksums(folder)
    made = (folder / "deep/large").stat()
    hashed.clear()
    assert find_damage(folder) is None
    assert hashed == ["small"]
    (folder / "deep/large").write_bytes(bytes(99) + b"x")
    os.utime(folder / "deep/large", ns=(made.st_atime_ns, made.st_mtime_ns + 1))
    assert find_damage(folder) == f"'{folder / 'deep/large'}' has changed: its SHA-256 is another"
    assert hashed == ["small", "large"]


def test_a_copy_with_other_times_is_whole(folder, hashed, monkeypatch):
    monkeypatch.setattr(content_store, "_LARGE", 50)
    write_checksums(folder)
    hashed.clear()
    os.utime(folder / "deep/large", ns=(1, 1))
    assert find_damage(folder) is find_damage(folder) is None
    assert hashed == ["large", "small"]


@pytest.mark.parametrize("content", ["[]", '{"small": 3}', '{"small": {"bytes": 5}}', "{", "\xff"])
def test_a_list_that_is_none_is_damage_of_its_own(folder, content):
    (folder / "checksums.json").write_text(content, encoding="latin-1")
    assert find_damage(folder) == f"'{folder / 'checksums.json'}' cannot be read"


def test_a_folder_in_the_place_of_a_file_is_damage(folder):
    write_checksums(folder)
    (folder / "small").unlink()
    (folder / "small").mkdir()
    assert find_damage(folder).startswith(f"'{folder / 'small'}' ")


def test_keys_differ_by_any_content_and_not_by_order():
    assert content_key(a=1, b={"x": [1, 2], "y": None}) == content_key(b={"y": None, "x": [1, 2]}, a=1)
    keys = {content_key(a=1), content_key(a=2), content_key(a="1"), content_key(b=1), content_key(a=1, b=None)}
    assert len(keys) == 5


def test_what_is_there_is_not_built_again(tmp_path):
    store, built = ContentStore(tmp_path), []

    def build(folder):
        built.append(folder)
        (folder / "file").write_text("content")

    first, again = store.obtain("key", build), store.obtain("key", build)
    assert first == (tmp_path / "key", False)
    assert again == (tmp_path / "key", True)
    assert len(built) == 1
    assert (tmp_path / "key/file").read_text() == "content"


def test_a_failure_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        ContentStore(tmp_path).obtain("key", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_a_part_that_the_next_build_finds(tmp_path):
    def interrupted(folder):
        (folder / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ContentStore(tmp_path).obtain("key", interrupted)
    assert not (tmp_path / "key").exists()
    seen = []
    ContentStore(tmp_path).obtain("key", lambda folder: seen.append((folder / "checkpoint").read_text()))
    assert seen == ["epoch 3"]


def fails(error):
    """Return a build that has come some way when it fails."""

    def build(folder):
        (folder / "progress").write_text("epoch 3")
        (folder / "half").write_text("")
        (folder / "more").mkdir()
        raise error

    return build


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "the disk is gone"), OSError(errno.ENOSPC, "full"), RuntimeError, FloatingPointError("NaN")],
)
def test_what_fails_through_no_fault_of_its_own_goes_on_where_it_was(tmp_path, error):
    store = ContentStore(tmp_path)
    with pytest.raises((OSError, RuntimeError, InputError, FloatingPointError)):
        store.obtain("key", fails(error), progress="progress")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["key.partial", "progress"]
    seen = []
    store.obtain("key", lambda folder: seen.append((folder / "progress").read_text()), progress="progress")
    assert seen == ["epoch 3"]
    assert {path.name for path in tmp_path.rglob("*")} == {"key", "checksums.json", "made_by.json"}


def test_what_would_fail_again_leaves_nothing_to_go_on_with(tmp_path):
    with pytest.raises(InputError):
        ContentStore(tmp_path).obtain("key", fails(InputError("an image cannot be read")), progress="progress")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_message_that_names_the_place(tmp_path):
    with pytest.raises(InputError, match=r"the disk is full: .*key\.partial' could not be written whole, where .* MB"):
        ContentStore(tmp_path).obtain("key", fails(OSError(errno.ENOSPC, "No space left on device")))


def test_progress_goes_when_the_folder_is_in_its_place_and_not_before(tmp_path, monkeypatch):
    def build(folder):
        (folder / "progress").write_text("last epoch")
        (folder / "network").write_text("trained")

    def killed(*_):
        raise KeyboardInterrupt

    store = ContentStore(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kdad.storage.content_store.os.replace", killed)
        store.obtain("key", build, progress="progress")
    assert (tmp_path / "key.partial/progress").exists()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kdad.storage.content_store._drop", killed)
        store.obtain("key", build, progress="progress")
    whole = {"checksums.json", "made_by.json", "network"}
    assert {path.name for path in (tmp_path / "key").iterdir()} == whole | {"progress"}
    assert store.obtain("key", lambda _: 1 / 0, progress="progress") == (tmp_path / "key", True)
    assert {path.name for path in (tmp_path / "key").iterdir()} == whole


def _write_two(folder):
    (folder / "inner").mkdir()
    (folder / "network").write_bytes(bytes(100))
    (folder / "inner/history.csv").write_text("epoch,value\n0,1.5\n")


def _flip(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: _flip(folder / "network"), "key/network' has changed: its SHA-256 is another"),
        (lambda folder: _flip(folder / "inner/history.csv"), "inner/history.csv' has changed: its SHA-256 is another"),
        (lambda folder: (folder / "network").write_bytes(bytes(99)), "key/network' has 99 bytes instead of 100"),
        (lambda folder: (folder / "network").unlink(), "key/network' is missing"),
        (lambda folder: (folder / "checksums.json").unlink(), "key/checksums.json' is missing"),
        (lambda folder: (folder / "checksums.json").write_text("{"), "key/checksums.json' cannot be read"),
    ],
)
def test_a_damaged_folder_is_named_and_filled_anew(tmp_path, caplog, damage, said):
    store, built = ContentStore(tmp_path), []

    def build(folder):
        built.append(folder)
        _write_two(folder)

    store.obtain("key", build)
    damage(tmp_path / "key")
    assert store.obtain("key", build) == (tmp_path / "key", False)
    (message,) = caplog.messages
    assert message.startswith("Finished work is damaged, and is made again: '") and said in message
    assert (tmp_path / "key/network").read_bytes() == bytes(100)
    assert store.obtain("key", build) == (tmp_path / "key", True)
    assert len(built) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


_BUILDER = """
import json, os, sys, time
from pathlib import Path
from kdad.storage.content_store import ContentStore

root, started, go_on = map(Path, sys.argv[1:4])
built = []

def build(folder):
    built.append(sorted(path.name for path in folder.iterdir()))
    (folder / "first").write_text("half")
    (started / str(os.getpid())).touch()
    while not go_on.exists():
        time.sleep(0.01)
    (folder / "second").write_text("whole")

print("ready", flush=True)
folder, reused = ContentStore(root).obtain("key", build)
print(json.dumps([built, reused, sorted(path.name for path in folder.iterdir())]))
"""


@pytest.fixture
def builder(tmp_path):
    """Start processes that build the same key; each notes its start, and goes on when told."""
    running = []
    (tmp_path / "started").mkdir()

    def start() -> subprocess.Popen:
        arguments = [str(tmp_path / name) for name in ("store", "started", "go_on")]
        process = subprocess.Popen([sys.executable, "-c", _BUILDER, *arguments], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def until(what) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_two_processes_one_builds_and_the_other_waits_and_finds_it_whole(tmp_path, builder):
    processes = [builder(), builder()]
    until(lambda: any((tmp_path / "started").iterdir()))
    assert not (tmp_path / "store/key").exists()
    (tmp_path / "go_on").touch()
    whole = ["checksums.json", "first", "made_by.json", "second"]
    found = sorted(json.loads(process.communicate()[0]) for process in processes)
    assert found == [[[], True, whole], [[[]], False, whole]]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["key"]


def test_what_a_killed_process_left_is_taken_over_by_one_that_waited(tmp_path, builder):
    first = builder()
    until(lambda: any((tmp_path / "started").iterdir()))
    second = builder()
    first.send_signal(signal.SIGKILL)
    first.wait()
    (tmp_path / "go_on").touch()
    assert json.loads(second.communicate()[0]) == [
        [["first"]],
        False,
        ["checksums.json", "first", "made_by.json", "second"],
    ]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["key"]


def test_a_wait_is_said_in_one_line_that_names_the_process(tmp_path, builder, monkeypatch):
    other = builder()
    until(lambda: any((tmp_path / "started").iterdir()))
    lines = []

    def say(*line):
        lines.append(line)
        (tmp_path / "go_on").touch()

    monkeypatch.setattr("kdad.storage.replacing.logger.info", say)
    assert ContentStore(tmp_path / "store").obtain("key", lambda _: 1 / 0) == (tmp_path / "store/key", True)
    ((text, holder, what),) = lines
    assert text == "Waiting for %s, which is making %s"
    assert holder.startswith(f"process {other.pid} (`python")
    assert what == f"'{tmp_path / 'store/key'}'"
