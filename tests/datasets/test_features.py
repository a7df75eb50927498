"""What frozen networks are and gave, as files that name them."""

import json
import shutil

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from kdad.datasets.features import FeaturesDataset, FrozenDataset
from kdad.errors import InputError
from kdad.features.cache import open_cache
from kdad.features.network import SourceReference


def test_references_come_back_as_the_system_has_them(tmp_path, made):
    dataset = FrozenDataset(filepath=str(tmp_path / "new/frozen.json"), system="baselines")
    dataset.save(made.references)
    assert dataset.load() == made.references
    assert isinstance(dataset.load()["source"], SourceReference)
    assert json.loads((tmp_path / "new/frozen.json").read_text())["source"]["name"] == "timm:test_resnet"


def test_caches_are_named_and_opened_without_reading_them(tmp_path, made):
    cache = made.feature_set.features["source"]
    shutil.copytree(cache.folder, tmp_path / "data/store/cache")
    dataset = FeaturesDataset(filepath=str(tmp_path / "data/baselines/features.json"))
    dataset.save({"source": open_cache(tmp_path / "data/store/cache")})
    found = dataset.load()["source"]
    assert found.identity == cache.identity
    assert all(isinstance(array, np.memmap) for array in found.arrays)
    assert torch.equal(found.images(np.array([3])), cache.images(np.array([3])))
    # Named from where the file lies: the project may be moved.
    shutil.move(tmp_path / "data", tmp_path / "moved")
    moved = FeaturesDataset(filepath=str(tmp_path / "moved/baselines/features.json"))
    assert moved.load()["source"].identity == cache.identity


@pytest.mark.parametrize("dataset", [FeaturesDataset, lambda filepath: FrozenDataset(filepath=filepath, system="mkd")])
def test_what_is_missing_says_what_to_do(tmp_path, dataset):
    with pytest.raises(DatasetError, match="run the whole pipeline, or the step that makes it, first") as caught:
        dataset(filepath=str(tmp_path / "none.json")).load()
    assert isinstance(caught.value.__cause__, InputError)


def test_a_store_that_is_gone_says_what_to_do(tmp_path):
    (tmp_path / "features.json").write_text('{"source": "store/gone"}')
    with pytest.raises(DatasetError, match="gone"):
        FeaturesDataset(filepath=str(tmp_path / "features.json")).load()
