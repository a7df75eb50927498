"""A training killed as it saves a checkpoint, a folder's swap killed between its two moves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kdad.training.loop import CheckpointFile


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


@contextmanager
def swap_killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block a folder is replaced by a process that is killed between the swap's two moves."""
    moved = os.replace

    def killed(source, target):
        if os.fspath(source).endswith(".partial"):
            raise SystemExit
        moved(source, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("kdad.storage.replacing.os.replace", killed)
        patch.setattr("kdad.storage.replacing._put_back", lambda *_: None)  # it has no time for that
        yield
