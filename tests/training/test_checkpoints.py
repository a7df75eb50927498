"""A checkpoint is whole, and of this training, or not used."""

import os

import pytest
import torch

from kdad.training.checkpoints import CheckpointFile


@pytest.fixture
def checkpoint(tmp_path) -> CheckpointFile:
    """A checkpoint in a folder that is not there yet."""
    return CheckpointFile(tmp_path / "checkpoints" / "cloner.checkpoint", "key")


def test_round_trip(checkpoint):
    assert checkpoint.load() is None
    checkpoint.save({"epoch": 3, "module": {"weight": torch.arange(3.0)}, "history": [{"value": 0.1}]})
    state = checkpoint.load()
    assert (state["epoch"], state["history"]) == (3, [{"value": 0.1}])
    assert state["module"]["weight"].tolist() == [0, 1, 2]
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["cloner.checkpoint"]


def test_a_checkpoint_of_another_key_is_not_used(checkpoint):
    checkpoint.save({"epoch": 3})
    assert CheckpointFile(checkpoint.path, "other").load() is None
    assert checkpoint.load()["epoch"] == 3


def test_a_kill_while_saving_leaves_the_older_checkpoint(monkeypatch, checkpoint):
    checkpoint.save({"epoch": 3})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save({"epoch": 4})
    assert checkpoint.load()["epoch"] == 3


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"\xff" * 20,
        lambda content: content[:-20],
        lambda content: _flipped(content, len(content) // 2),
        lambda content: _flipped(content, -1),
    ],
)
def test_a_damaged_checkpoint_is_named_and_not_used(checkpoint, caplog, damage):
    checkpoint.save({"epoch": 3, "module": {"weight": torch.arange(1000.0)}})
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert checkpoint.load() is None
    (message,) = caplog.messages
    assert message == f"The checkpoint '{checkpoint.path}' is damaged (its SHA-256 is another): training anew"
