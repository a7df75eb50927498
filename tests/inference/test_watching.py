"""A journal keeps what was appended, whenever its process ends."""

import json

import pytest

from kdad.errors import InputError
from kdad.inference.watching import Journal

HEADING = {"format": 1, "detector": "a"}
ENTRIES = [{"row": {"path": "x\ny.png", "score": 0.1}}, {"row": {"path": "\udcff ü.png", "score": None}}]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new/journal.jsonl"
    journal = Journal(path, HEADING)
    for entry in ENTRIES:
        journal.append(entry)
    journal.close()
    return path


def test_entries_are_there_again(path):
    assert Journal(path, HEADING).earlier == ENTRIES
    assert len(path.read_bytes().splitlines()) == 3


def test_cut_at_any_byte_the_whole_lines_are_kept_and_it_goes_on(path):
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        journal = Journal(path, HEADING)
        whole = sum(end < length for end in ends)
        assert journal.earlier == ENTRIES[: max(whole - 1, 0)]
        journal.append({"row": "new"})
        journal.close()
        assert Journal(path, HEADING).earlier == [*ENTRIES[: max(whole - 1, 0)], {"row": "new"}]


def test_an_entry_is_on_the_disk_when_append_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr("kdad.inference.watching.os.fsync", lambda file: synced.append(path.read_bytes()))
    Journal(path, HEADING).append({"row": "new"})
    assert json.loads(synced[-1].splitlines()[-1]) == {"row": "new"}


def test_a_journal_of_another_detector_is_refused(path):
    with pytest.raises(InputError, match="predicted with detector a, and this watch has detector b"):
        Journal(path, HEADING | {"detector": "b"})
    assert Journal(path, HEADING).earlier == ENTRIES


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n"])
def test_what_is_no_journal_is_refused_and_left_alone(path, line):
    content = path.read_bytes() + line + path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not as it was written"):
        Journal(path, HEADING)
    assert path.read_bytes() == content
