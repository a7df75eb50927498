"""Weights as files that are read back exactly or not at all."""

import os

import pytest
import torch
from kedro.io import DatasetError

from kdad.networks.weights_file import NetworkWeights, NetworkWeightsDataset


@pytest.fixture
def dataset(tmp_path) -> NetworkWeightsDataset:
    """A file in a folder that is not there yet."""
    return NetworkWeightsDataset(filepath=str(tmp_path / "models" / "cloner.safetensors"))


@pytest.fixture
def weights() -> NetworkWeights:
    """Weights in several layouts and types."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    return NetworkWeights(network.state_dict(), {"key": "abc", "points": "pool2,pool3"})


def test_round_trip(dataset, weights):
    assert not dataset.exists()
    dataset.save(weights)
    assert dataset.exists()
    loaded = dataset.load()
    assert loaded.metadata == weights.metadata
    assert loaded.state.keys() == weights.state.keys()
    for name, tensor in weights.state.items():
        assert torch.equal(loaded.state[name], tensor)
        assert loaded.state[name].dtype == tensor.dtype


def test_weights_without_metadata_load_with_none(dataset, weights):
    dataset.save(NetworkWeights(weights.state, {}))
    assert dataset.load().metadata == {}


@pytest.mark.parametrize("damage", [b"", b"\xff" * 50, "cut"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, dataset, weights, damage):
    dataset.save(weights)
    path = tmp_path / "models" / "cloner.safetensors"
    path.write_bytes(path.read_bytes()[:-8] if damage == "cut" else damage)
    with pytest.raises(DatasetError, match=r"cloner\.safetensors' cannot be read .*train the network again"):
        dataset.load()


def test_a_missing_file_is_an_error_that_names_it(dataset):
    with pytest.raises(DatasetError, match=r"cloner\.safetensors"):
        dataset.load()


def test_a_save_that_is_cut_off_leaves_the_older_weights(monkeypatch, dataset, weights):
    dataset.save(weights)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            dataset.save(NetworkWeights({"other": torch.zeros(1)}, {}))
    assert dataset.load().metadata["key"] == "abc"


def test_only_the_file_is_left_after_saving(tmp_path, dataset, weights):
    dataset.save(weights)
    dataset.save(weights)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["cloner.safetensors"]
