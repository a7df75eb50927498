"""Folders and files take their place whole, or leave what was there."""

import os

import pytest

from kdad.replacing import is_taken, link_or_copy, replace_text, replacing


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

    monkeypatch.setattr("kdad.replacing.os.replace", fail)
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
        monkeypatch.setattr("kdad.replacing.os.link", refuse)
    source, target = kept / "old", kept / "second"
    assert link_or_copy(source, target) == target
    assert target.read_text() == "old"
    assert target.samefile(source) is can_link
