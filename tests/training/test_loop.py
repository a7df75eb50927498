"""The training loop: what it draws, measures, saves and stops at."""

import os
import re
import threading
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdad.errors import DivergedError
from kdad.parameters.blocks import TrainingParameters
from kdad.progress import loss_listeners
from kdad.training.loop import CheckpointFile, TrainingTask, train

_FIVE = np.arange(5)
_TRAINING, _VALIDATION = np.arange(3, 20), np.array([0, 2, 21])


class _Regression:
    """A small network with dropout and BatchNorm that learns fixed targets; notes every call of its loss."""

    def __init__(self, stop_at: int | None = None) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))
            self.inputs, self.targets = torch.randn(22, 4), torch.randn(22)
        self.stop_at = stop_at
        self.calls: list[tuple[np.ndarray, bool, bool]] = []

    def loss(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        if self.stop_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append((rows, self.module.training, torch.is_grad_enabled()))
        squares = (self.module(self.inputs[rows]).squeeze(1) - self.targets[rows]).square()
        return {"total": 2 * squares, "square": squares}

    def train(self, path, key="key", seed=0, **parameters) -> pd.DataFrame:
        settings = TrainingParameters(**{"epochs": 6, "batch_size": 8, "learning_rate": 0.05} | parameters)
        task = TrainingTask("regression", self.module, self.loss, _TRAINING, _VALIDATION)
        return train(task, settings, seed, CheckpointFile(path / "regression.checkpoint", key))

    def same_weights(self, other: "_Regression") -> bool:
        mine, others = self.module.state_dict(), other.module.state_dict()
        return all(torch.equal(tensor, others[name]) for name, tensor in mine.items())


class _Constant:
    """A parameter that is pulled by `target`; the terms are given by the caller."""

    names = "row {}".format

    def __init__(self, terms) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        self.terms = terms

    def train(self, path, epochs=3, rows=_FIVE, **parameters) -> pd.DataFrame:
        task = TrainingTask("constant", self.module, self._loss, rows, np.array([5, 6, 7]), names=self.names)
        settings = TrainingParameters(**{"epochs": epochs, "batch_size": 2} | parameters)
        return train(task, settings, 0, CheckpointFile(path / "constant.checkpoint", "key"))

    def _loss(self, rows):
        pull = self.module.weight.sum()
        return {term: torch.tensor(value, dtype=torch.float32) + 0 * pull for term, value in self.terms(rows).items()}


@pytest.fixture
def rates(monkeypatch) -> list[float]:
    """The learning rate of every step that is made."""
    noted, step = [], torch.optim.Adam.step

    def noting(self, *args, **kwargs):
        noted.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    return noted


def test_two_runs_of_one_seed_are_identical(tmp_path):
    first, second, other = _Regression(), _Regression(), _Regression()
    history = first.train(tmp_path)
    torch.rand(7)  # the surrounding stream must not matter
    pd.testing.assert_frame_equal(second.train(tmp_path), history, check_exact=True)
    assert first.same_weights(second)
    other.train(tmp_path, seed=1)
    assert not first.same_weights(other)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(tmp_path, schedule):
    whole = _Regression()
    history = whole.train(tmp_path / "whole", schedule=schedule, checkpoint_every=2)
    # 17 rows in batches of at most 8 are 3 steps, and 1 validation: call 18 is in the fifth of six epochs
    cut = _Regression(stop_at=18)
    with pytest.raises(KeyboardInterrupt):
        cut.train(tmp_path / "cut", schedule=schedule, checkpoint_every=2)
    resumed = _Regression()
    found = resumed.train(tmp_path / "cut", schedule=schedule, checkpoint_every=2)
    assert len(resumed.calls) == 2 * 4  # the last two epochs only
    pd.testing.assert_frame_equal(found, history, check_exact=True)
    assert resumed.same_weights(whole)


def test_a_checkpoint_of_another_key_is_not_used(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _Regression(stop_at=18).train(tmp_path, key="other", checkpoint_every=2)
    whole, found = _Regression(), _Regression()
    history = whole.train(tmp_path / "whole")
    pd.testing.assert_frame_equal(found.train(tmp_path), history, check_exact=True)
    assert len(found.calls) == 6 * 4


def test_checkpoints_are_written_at_their_interval_but_not_after_the_last_epoch(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(CheckpointFile, "save", lambda _, state: saved.append(state["epoch"]))
    _Regression().train(tmp_path, epochs=6, checkpoint_every=2)
    assert saved == [1, 3]  # epochs count from 0


def test_every_epoch_meets_every_training_row_once_in_a_new_order_and_nearly_equal_batches(tmp_path):
    regression = _Regression()
    regression.train(tmp_path, epochs=2)
    batches = [rows for rows, training, _ in regression.calls if training]
    assert [len(rows) for rows in batches] == [6, 6, 5] * 2
    epochs = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    for order in epochs:
        np.testing.assert_array_equal(np.sort(order), _TRAINING)
    assert (epochs[0] != epochs[1]).any()


def test_validation_sees_its_rows_in_evaluation_mode_without_gradients(tmp_path):
    regression = _Regression()
    regression.train(tmp_path, epochs=2)
    assert Counter((training, grad) for _, training, grad in regression.calls) == {(True, True): 6, (False, False): 2}
    np.testing.assert_array_equal(regression.calls[-1][0], _VALIDATION)
    assert not regression.module.training


def test_history_has_each_epoch_split_and_term_averaged_over_images(tmp_path):
    # rows 0..4 in batches of 2, 2 and 1, and rows 5..7 in 2 and 1: image averages are 2 and 6, whatever the batches
    history = _Constant(lambda rows: {"total": rows, "double": 2 * rows}).train(tmp_path, epochs=2)
    assert list(history.columns) == ["epoch", "split", "term", "value"]
    expected = {
        ("training", "total"): 2,
        ("training", "double"): 4,
        ("validation", "total"): 6,
        ("validation", "double"): 12,
    }
    for epoch in range(2):
        rows = history[history["epoch"] == epoch]
        assert {(row.split, row.term): row.value for row in rows.itertuples()} == expected
    assert len(history) == 8


def test_constant_schedule_keeps_the_rate(tmp_path, rates):
    _Regression().train(tmp_path, schedule="constant", learning_rate=0.01)
    assert rates == [0.01] * 6 * 3


def test_one_cycle_rises_to_the_rate_and_falls_over_the_whole_training(tmp_path, rates):
    _Regression().train(tmp_path, schedule="one_cycle", learning_rate=0.01, epochs=10)
    assert len(rates) == 30
    # Smith and Topin 2018 as torch has it: from a 25th of the peak, after 30 % the peak, then to a 25 * 10^4th
    assert rates[0] == pytest.approx(0.01 / 25)
    assert int(np.argmax(rates)) == 8
    assert max(rates) == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 / 25e4)
    assert (np.diff(rates[:9]) > 0).all()
    assert (np.diff(rates[8:]) < 0).all()


def test_the_first_step_is_adams(tmp_path):
    # Adam's first step is lr * g / (|g| + 1e-8): 0.1 against the sign of the gradient, here 2 w = 6 -> 2.9
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(3.0)
    task = TrainingTask(
        "step",
        module,
        lambda rows: {"total": module.weight.square().expand(len(rows), 1)[:, 0]},
        np.arange(2),
        np.arange(1),
    )
    parameters = TrainingParameters(epochs=1, batch_size=2, learning_rate=0.1, schedule="constant")
    train(task, parameters, 0, CheckpointFile(tmp_path / "step", "key"))
    assert module.weight.item() == pytest.approx(2.9, abs=1e-6)


def test_weight_decay_pulls_to_zero(tmp_path):
    constant = _Constant(lambda rows: {"total": rows})
    constant.module.weight.data.fill_(3.0)
    constant.train(tmp_path, epochs=1, schedule="constant", learning_rate=0.1, weight_decay=0.5)
    assert constant.module.weight.item() == pytest.approx(2.7, abs=0.01)  # three steps of about 0.1


def test_the_last_epochs_weights_are_kept_though_validation_was_better_before(tmp_path):
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    validated = []

    def loss(rows):
        target = 1.0 if torch.is_grad_enabled() else 0.0  # what training learns is wrong for validation
        if not torch.is_grad_enabled():
            validated.append(module.weight.item())
        return {"total": (module.weight.flatten() - target).square().expand(len(rows))}

    task = TrainingTask("last", module, loss, np.arange(4), np.arange(2))
    parameters = TrainingParameters(epochs=5, batch_size=4, learning_rate=0.1, schedule="constant")
    history = train(task, parameters, 0, CheckpointFile(tmp_path / "last", "key"))
    validation = history.loc[history["split"] == "validation", "value"]
    assert validation.is_monotonic_increasing
    assert module.weight.item() == validated[-1] == max(validated)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([8, 1, 2, 5], ["constant", "5", "1", "epoch 2"]),  # 4 of the 7 that it had fallen
        ([8, 1, 2, 4], None),  # 3 of 7
        ([8, 1, 7, 1], None),  # what ended well
        ([-1, -9, -2, -4], ["-4", "-9", "epoch 2"]),  # 5 of 8
        ([2, 3, 4, 5], ["5", "2", "epoch 1"]),
        ([2, 2, 2, 2], None),
    ],
)
def test_a_training_loss_that_rose_again_is_said(tmp_path, caplog, losses, said):
    calls = iter(range(20))  # of each epoch three batches and two validation ones
    _Constant(lambda rows: {"total": [float(losses[next(calls) // 5])] * len(rows)}).train(tmp_path, epochs=4)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (said is not None)
    assert all(part in warning for warning in warnings for part in said)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("term", ["total", "last"])
def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_saved(tmp_path, value, split, term):
    def terms(rows):
        spoilt = (rows[0] < 5) == (split == "training")
        return {name: np.where(spoilt & (name == term), value, 1.0) + 0 * rows for name in ("total", "last")}

    with pytest.raises(DivergedError, match=r"the loss of constant is not finite in epoch 1 of 3, (validation )?batch"):
        _Constant(terms).train(tmp_path, checkpoint_every=1)
    assert list(tmp_path.iterdir()) == []


def _spoil(row: int, from_call: int):
    """Return terms of which `row` has no finite loss from a call on."""
    calls = []

    def terms(rows):
        calls.append(rows)
        return {"total": np.where((rows == row) & (len(calls) > from_call), np.nan, 1.0)}

    return terms


def test_the_image_batch_and_epoch_of_a_broken_loss_are_named_and_nothing_has_moved(tmp_path):
    # Five images in batches of 2: 3 calls to train on and 2 to validate with an epoch, so the 6th begins the second.
    constant = _Constant(_spoil(3, from_call=5))
    constant.names = lambda row: f"train/good/{row:03d}.png"
    with pytest.raises(DivergedError) as caught:
        constant.train(tmp_path, checkpoint_every=1)
    assert re.fullmatch(
        r"the loss of constant is not finite in epoch 2 of 3, batch [123], for train/good/003\.png; look at these "
        r"images, or lower the training's learning_rate\. The last checkpoint is kept",
        str(caught.value),
    )
    state = CheckpointFile(tmp_path / "constant.checkpoint", "key").load()
    assert state["epoch"] == 0
    assert torch.isfinite(state["module"]["weight"]).all()


def test_a_held_out_image_is_named_and_of_many_the_first_five(tmp_path):
    constant = _Constant(_spoil(6, from_call=0))
    with pytest.raises(DivergedError, match="in epoch 1 of 3, validation batch 1, for row 6;"):
        constant.train(tmp_path)
    many = _Constant(lambda rows: {"total": np.full(len(rows), np.inf)})
    with pytest.raises(DivergedError, match=r"batch 1, for row \d, row \d, row \d, row \d, row \d and 1 more;"):
        many.train(tmp_path, rows=np.arange(6), batch_size=6)


def test_sgd_steps_as_torch_does_by_hand(tmp_path):
    """w' = w - lr * (gradient + decay * w); the next step's velocity keeps 0.5 of the last."""
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)

    def loss(rows):
        return {"total": 2.0 * network.weight.flatten().expand(len(rows))}

    parameters = TrainingParameters(
        epochs=2, batch_size=1, learning_rate=0.1, schedule="constant", optimiser="sgd", momentum=0.5, weight_decay=0.5
    )
    task = TrainingTask("line", network, loss, np.arange(1), np.arange(1))
    train(task, parameters, 0, CheckpointFile(tmp_path / "line.checkpoint", "key"))
    first = 1.0 - 0.1 * (2.0 + 0.5 * 1.0)
    velocity = 0.5 * (2.0 + 0.5 * 1.0) + (2.0 + 0.5 * first)
    assert network.weight.item() == pytest.approx(first - 0.1 * velocity)


def test_adam_takes_its_first_beta_from_the_momentum(tmp_path):
    """Gradients of 1 and 3: their mean is 0.5 (0.5 1) + 0.5 3, over 1 - 0.5^2 since it began at 0."""
    network, gradients = nn.Linear(1, 1, bias=False), iter([1.0, 0.0, 3.0, 0.0])  # 0 for the validation rows
    network.weight.data.fill_(1.0)

    def loss(rows):
        return {"total": next(gradients) * network.weight.flatten().expand(len(rows))}

    parameters = TrainingParameters(epochs=2, batch_size=1, learning_rate=0.1, schedule="constant", momentum=0.5)
    task = TrainingTask("line", network, loss, np.arange(1), np.arange(1))
    train(task, parameters, 0, CheckpointFile(tmp_path / "line.checkpoint", "key"))
    mean = (0.5 * 0.5 * 1.0 + 0.5 * 3.0) / (1 - 0.5**2)
    spread = ((0.999 * 0.001 * 1.0 + 0.001 * 9.0) / (1 - 0.999**2)) ** 0.5
    assert network.weight.item() == pytest.approx(1.0 - 0.1 * 1.0 - 0.1 * mean / spread, rel=1e-5)


def test_two_threads_train_as_one_after_the_other(tmp_path):
    class Slow(_Regression):
        def loss(self, rows):
            time.sleep(0.001)  # the other thread would draw its dropout in between
            return super().loss(rows)

    def run(regression, seed):
        regression.history = regression.train(tmp_path / f"{id(regression)}", seed=seed)

    alone, together = [Slow(), Slow()], [Slow(), Slow()]
    for seed, regression in enumerate(alone):
        run(regression, seed)
    threads = [threading.Thread(target=run, args=(regression, seed)) for seed, regression in enumerate(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, found in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(found.history, expected.history, check_exact=True)
        assert found.same_weights(expected)
    assert not alone[0].same_weights(alone[1])


class _Looks(TorchDispatchMode):
    """Counts how often a number is taken from a tensor: each time a graphics card would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_step_waits_for_the_device_once(tmp_path):
    regression = _Regression()
    with _Looks() as looks:
        regression.train(tmp_path, epochs=2, batch_size=8, optimiser="sgd")
    steps, validations = len(_TRAINING) // 8 + 1, 1
    batches = steps + validations
    assert looks.count == 2 * batches  # whether it is finite


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


def test_a_file_of_another_key_is_no_checkpoint(checkpoint):
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
