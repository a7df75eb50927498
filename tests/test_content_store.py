import pytest

from kdad.content_store import ContentStore, content_key


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
