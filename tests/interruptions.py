"""A training killed while it saves a checkpoint, for tests of resuming."""

import pytest

from kdad.training.checkpoints import CheckpointFile


def train_killed_at(monkeypatch: pytest.MonkeyPatch, epoch: int, train, *args, **named) -> None:
    """Call `train`, and kill it as it saves the checkpoint of `epoch` (from 0), which is then not written."""
    save = CheckpointFile.save

    def killed(self, state):
        if state["epoch"] == epoch:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(*args, **named)
