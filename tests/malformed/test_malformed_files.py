"""Weights, IDX files, batches, checkpoints, and caches that are malformed: one error that names the file."""

import pickle

import numpy as np
import pytest
import torch

from kdad.errors import InputError
from kdad.features.cache import open_cache
from kdad.images import published
from kdad.images.published import read_idx
from kdad.images.registry import open_image_set
from kdad.networks.weights import load_source
from kdad.parameters.dataset import DatasetParameters
from kdad.training.loop import CheckpointFile
from malformed.image_files import malformed_images
from malformed.other_files import (
    DETECTOR_CHANGES,
    malformed_batches,
    malformed_idx,
    malformed_weights,
)

_NAME = "timm:test_resnet"


@pytest.fixture(scope="module")
def state():
    """The weights of a small network."""
    return load_source(_NAME, "random").pyramid.state_dict()


def test_the_whole_corpus_is_large_enough(state, tmp_path):
    mark = tmp_path / "mark"
    parts = (malformed_images(), malformed_weights(state, mark), malformed_idx(), malformed_batches(mark))
    assert sum(len(dict(part)) for part in parts) + len(DETECTOR_CHANGES) >= 250


def test_malformed_weights_are_named_and_run_nothing(state, tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / "sound.pth"
    torch.save(state, path)
    load_source(_NAME, str(path))
    for name, content in malformed_weights(state, mark):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_source(_NAME, str(path))
        assert str(path) in str(caught.value), name
    assert not mark.exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_floating_dtype_are_the_same_network(state, tmp_path, dtype):
    other = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    torch.save(other, tmp_path / "other.pth")
    found = load_source(_NAME, str(tmp_path / "other.pth")).pyramid.state_dict()
    for name, value in state.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-4)
        assert found[name].dtype == value.dtype


def test_malformed_idx_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "_MOST", 1 << 20)
    for name, content in malformed_idx():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_idx(path, 3)
        assert str(caught.value).startswith(f"{path}: "), name


def test_malformed_batches_are_named_and_run_nothing(tmp_path):
    mark, folder = tmp_path / "mark", tmp_path / "batches"
    folder.mkdir()
    sound = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}, protocol=2)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(sound)
    parameters = DatasetParameters(name="cifar10", normal_class=3, image_size=32, root=str(folder))
    for name, content in malformed_batches(mark):
        (folder / "data_batch_1").write_bytes(content)
        with pytest.raises(InputError) as caught:
            open_image_set(parameters)
        assert str(caught.value).startswith(f"{folder / 'data_batch_1'}: "), name
    assert not mark.exists()
    (folder / "data_batch_1").write_bytes(sound)
    assert len(open_image_set(parameters).samples) == 1


def test_a_checkpoint_cut_at_every_eighth_or_with_any_byte_flipped_is_named_and_not_used(tmp_path, caplog):
    checkpoint = CheckpointFile(tmp_path / "training.checkpoint", "key")
    checkpoint.save({"epoch": 1, "module": {"weight": torch.arange(50.0)}})
    whole = checkpoint.path.read_bytes()
    damaged = [whole[: len(whole) * eighths // 8] for eighths in range(8)]
    for place in range(0, len(whole), len(whole) // 16):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    for content in damaged:
        checkpoint.path.write_bytes(content)
        assert checkpoint.load() is None
    assert [str(checkpoint.path) in message for message in caplog.messages] == [True] * len(damaged)


@pytest.mark.parametrize(
    "manifest",
    [
        *("", "{", "[]", "3", "null", '"text"', "{}", '{"points": []}', '{"points": null}', '{"points": [{}]}'),
        '{"points": [{"name": "../outside"}]}',
        '{"points": [{"name": "/etc/passwd"}]}',
        '{"points": [{"name": 3}]}',
        '{"selected_from": "../nowhere", "whole": ""}',
        '{"selected_from": 3, "whole": ""}',
        '{"selected_from": null}',
    ],
)
def test_a_cache_with_a_malformed_manifest_is_named(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 8, 8), np.float32))
    np.save(tmp_path.parent / "outside.npy", np.zeros(1))
    with pytest.raises(InputError, match=rf"the feature cache '{tmp_path}.* is missing or damaged"):
        open_cache(tmp_path)
