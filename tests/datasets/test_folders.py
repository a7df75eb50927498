"""Folders as Kedro datasets."""

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from kdad.datasets.folders import ActivationCacheDataset, MapStackDataset, WorkFolderDataset
from kdad.features.cache import write_cache
from kdad.networks.points import CriticalPoint
from kdad.scoring.map_stack import write_stack


@pytest.fixture
def write_small_cache(tmp_path):
    """Write a cache of one image under the given name."""

    def write(name):
        manifest = {"image_size": [2, 2], "dtype": "float32", "scales": [1.0]}
        batches = iter([(np.full((1, 3, 2, 2), 0.5, np.float32), [torch.ones(1, 1, 1, 1)])])
        points = [CriticalPoint("low", 1, 1, 1, signed=False)]
        return write_cache(tmp_path / name, manifest, points, 1, batches, {})

    return write


@pytest.fixture
def stacks(tmp_path):
    """Three stacks on disk, told apart by their values."""
    names = {"discrepancy": 1.0, "gradients": 2.0, "smooth_grad": 3.0}
    return {
        name: write_stack(tmp_path / f"{name}.npy", (1, 2, 2), [np.full((1, 2, 2), v)]) for name, v in names.items()
    }


def _names(folder):
    return sorted(path.stem for path in folder.glob("*.npy"))


def test_a_work_folder_is_a_path_that_its_node_fills(tmp_path):
    dataset = WorkFolderDataset(filepath=str(tmp_path / "work"))
    assert dataset.load() == tmp_path / "work"
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="filled by the node"):
        dataset.save(tmp_path)


def test_a_cache_is_opened_where_its_node_wrote_it(tmp_path, write_small_cache):
    dataset = ActivationCacheDataset(filepath=str(tmp_path / "right"))
    assert not dataset.exists()
    dataset.save(write_small_cache("right"))
    assert dataset.exists()
    assert dataset.load().images(np.array([0])).flatten().tolist() == [0.5] * 12


def test_a_cache_elsewhere_is_an_error(tmp_path, write_small_cache):
    with pytest.raises(DatasetError, match=r"lies in '.*wrong', the catalog says '.*right'"):
        ActivationCacheDataset(filepath=str(tmp_path / "right")).save(write_small_cache("wrong"))


def test_a_missing_cache_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match="run 'features' again"):
        ActivationCacheDataset(filepath=str(tmp_path / "none")).load()


def test_map_stacks_are_opened_by_name(tmp_path, stacks):
    loaded = MapStackDataset(filepath=str(tmp_path)).load()
    assert {name: stack.max() for name, stack in loaded.items()} == {name: s.max() for name, s in stacks.items()}
    only = MapStackDataset(filepath=str(tmp_path), names=["gradients", "absent"]).load()
    assert list(only) == ["gradients"]
    assert only["gradients"].max() == 2


def test_stale_stacks_are_removed(tmp_path, stacks):
    (tmp_path / "notes.txt").write_text("kept")
    MapStackDataset(filepath=str(tmp_path)).save({"gradients": stacks["gradients"]})
    assert _names(tmp_path) == ["gradients"]
    assert (tmp_path / "notes.txt").exists()


def test_stale_stacks_of_another_entry_are_left(tmp_path, stacks):
    dataset = MapStackDataset(filepath=str(tmp_path), names=["gradients", "smooth_grad"])
    dataset.save({"gradients": stacks["gradients"]})
    assert _names(tmp_path) == ["discrepancy", "gradients"]
    dataset.save({})
    assert _names(tmp_path) == ["discrepancy"]
