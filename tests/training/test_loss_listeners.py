"""Who listens hears of each epoch when it has ended, of networks whose losses are called by a name."""

import numpy as np
import pytest
import torch
from torch import nn

from kdad.progress import loss_listeners
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train
from kdad.training.parameters import TrainingParameters


@pytest.fixture
def told():
    """What a listener is told, each epoch with how many had begun by then."""
    heard = []
    loss_listeners.append(lambda metric, rows: heard.append((metric, {row["epoch"] for row in rows}, len(rows))))
    yield heard
    loss_listeners.pop()


@pytest.mark.parametrize("metric", ["student.{split}.{term}", None])
def test_each_epoch_is_told_as_it_ends(tmp_path, told, metric):
    module, begun = nn.Linear(1, 1), []

    def loss(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {"total": module(torch.ones(len(rows), 1)).squeeze(1).square()}

    def begin(epoch: int) -> None:
        begun.append(epoch)
        assert len(told) == (epoch if metric else 0)

    task = TrainingTask("linear", module, loss, np.arange(4), np.arange(2), begin, metric=metric)
    settings = TrainingParameters(epochs=3, batch_size=4, learning_rate=0.1)
    train(task, settings, 0, CheckpointFile(tmp_path / "checkpoint", "key"))
    assert begun == [0, 1, 2]
    assert told == ([(metric, {epoch}, 2) for epoch in range(3)] if metric else [])
