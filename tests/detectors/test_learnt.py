"""A network is trained once; what a killed training left is gone on with, and what is there is not trained again."""

import errno
import os

import pandas as pd
import pytest
import torch
from torch import nn

from kdad.detectors.learnt import count_flops, count_parameters, prefixed, state_of, train_once, without_prefix
from kdad.errors import InputError
from kdad.storage.content_store import ContentStore

_HISTORY = pd.DataFrame({"epoch": [0], "split": ["training"], "term": ["total"], "value": [0.125]})


@pytest.fixture
def store(tmp_path) -> ContentStore:
    """An empty store."""
    return ContentStore(tmp_path / "models")


def _train(checkpoint, value=2.0):
    network = nn.Linear(2, 3)
    nn.init.constant_(network.weight, value)
    return network, _HISTORY


def test_what_was_trained_is_found_by_its_key_alone(store):
    first = train_once(store, "key", _train)
    again = train_once(store, "key", lambda _: 1 / 0)
    assert (first.reused, again.reused) == (False, True)
    for trained in (first, again):
        assert trained.folder == store.root / "key"
        assert torch.equal(trained.state["weight"], torch.full((3, 2), 2.0))
        pd.testing.assert_frame_equal(trained.history, _HISTORY)
        assert 0 < trained.seconds < 60
    assert again.seconds == first.seconds
    assert not train_once(store, "other", _train).reused


def test_the_checkpoint_goes_when_the_weights_are_saved(store):
    def train(checkpoint):
        checkpoint.save({"epoch": 3})
        return _train(checkpoint)

    folder = train_once(store, "key", train).folder
    assert sorted(path.name for path in folder.iterdir()) == [
        *("checksums.json", "cost.json", "loss_history.csv", "made_by.json", "weights.safetensors")
    ]


def test_the_checkpoint_of_a_killed_training_is_there_for_the_next(store):
    def killed(checkpoint):
        checkpoint.save({"epoch": 3})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_once(store, "key", killed)
    found = []
    trained = train_once(store, "key", lambda checkpoint: found.append(checkpoint.load()) or _train(checkpoint))
    assert [state["epoch"] for state in found] == [3]
    assert not trained.reused


def test_a_training_that_diverges_leaves_its_last_checkpoint_alone(store):
    def fail(checkpoint):
        checkpoint.save({"epoch": 3})
        raise FloatingPointError("not finite")

    with pytest.raises(FloatingPointError):
        train_once(store, "key", fail)
    assert [path.name for path in store.root.rglob("*")] == ["key.partial", "training.checkpoint"]


def test_damaged_weights_are_trained_again(store, caplog):
    trained = train_once(store, "key", _train)
    content = bytearray(trained.weights.read_bytes())
    content[-1] ^= 1
    trained.weights.write_bytes(content)
    again = train_once(store, "key", _train)
    assert not again.reused
    assert "weights.safetensors' has changed: its SHA-256 is another" in caplog.text
    assert train_once(store, "key", lambda _: 1 / 0).reused


def test_a_state_is_of_plain_tensors_that_are_no_part_of_the_graph():
    network = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    state = state_of(network)
    assert list(state) == ["weight", "bias"]
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    assert torch.equal(state["weight"], network.weight)


def test_prefixes_are_put_before_names_and_taken_away():
    one, two = {"a": torch.zeros(1), "b.c": torch.ones(1)}, {"a": torch.ones(2)}
    together = prefixed(one, "first.") | prefixed(two, "second.")
    assert list(together) == ["first.a", "first.b.c", "second.a"]
    assert without_prefix(together, "first.") == one
    assert without_prefix(together, "second.") == two


def test_costs_by_hand():
    network = nn.Conv2d(2, 3, 3, padding=1)
    assert count_parameters(network) == 2 * 3 * 9 + 3
    # a multiplication and an addition for each weight at each of 4 x 5 pixels
    assert count_flops(lambda: network(torch.zeros(1, 2, 4, 5))) == 2 * 2 * 3 * 9 * 20


@pytest.mark.parametrize("step", ["write_text", "flush_to_disk", "replace"])
def test_a_training_whose_result_cannot_be_saved_goes_on_from_its_checkpoint(store, monkeypatch, step):
    """Whether the disk is full, or the process is killed: the checkpoint is there until the network is in the store."""

    def train(checkpoint):
        checkpoint.save({"epoch": 3})
        return _train(checkpoint)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    moved = os.replace

    def killed(source, target):
        if os.fspath(source).endswith(".partial"):
            raise KeyboardInterrupt
        moved(source, target)

    places = {
        "write_text": ("pathlib.Path.write_text", full),
        "flush_to_disk": ("kdad.storage.content_store.flush_to_disk", full),
        "replace": ("kdad.storage.content_store.os.replace", killed),
    }
    with monkeypatch.context() as patch, pytest.raises((InputError, KeyboardInterrupt)):
        patch.setattr(*places[step])
        train_once(store, "key", train)
    found = []
    trained = train_once(store, "key", lambda checkpoint: found.append(checkpoint.load()) or _train(checkpoint))
    assert [state["epoch"] for state in found] == [3]
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        *("checksums.json", "cost.json", "loss_history.csv", "made_by.json", "weights.safetensors")
    ]


def test_a_process_killed_once_the_network_is_in_the_store_leaves_a_finished_training(store, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    def train(checkpoint):
        checkpoint.save({"epoch": 3})
        return _train(checkpoint)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kdad.storage.content_store._drop", killed)
        train_once(store, "key", train)
    assert train_once(store, "key", lambda _: 1 / 0).reused
    assert not list(store.root.rglob("*.checkpoint"))
