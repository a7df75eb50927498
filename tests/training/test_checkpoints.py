"""A checkpoint is whole, and of this training, or not used."""

import os

import pytest
import torch

from kdad.errors import InputError
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


@pytest.mark.parametrize("damage", [b"", b"\xff" * 20, "cut"])
def test_a_damaged_checkpoint_is_an_input_error_that_says_what_to_do(checkpoint, damage):
    checkpoint.save({"epoch": 3})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-20] if damage == "cut" else damage)
    with pytest.raises(InputError, match=r"cloner\.checkpoint' cannot be read; delete it"):
        checkpoint.load()
