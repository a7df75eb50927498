"""Checksums name the file that is not as it was made, and hash no more than they must."""

import hashlib
import json
import os

import pytest

from kdad.storage import checksums
from kdad.storage.checksums import find_damage, sha256_of, write_checksums


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed from now on."""
    names = []
    real = checksums.sha256_of

    def note(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(checksums, "sha256_of", note)
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
    monkeypatch.setattr(checksums, "_LARGE", 50)
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
    monkeypatch.setattr(checksums, "_LARGE", 50)
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
