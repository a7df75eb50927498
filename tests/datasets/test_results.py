import json
import shutil

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from kdad.datasets.place import OutputFolderDataset
from kdad.datasets.results import (
    CaseResultsDataset,
    FeaturesDataset,
    FrozenDataset,
    MapStackDataset,
    PredictionsDataset,
    ThresholdDataset,
)
from kdad.errors import InputError
from kdad.experiments.case import CaseResult
from kdad.features.cache import open_cache
from kdad.features.network import SourceReference
from kdad.inference.predictions import write_predictions
from kdad.scoring.threshold import quantile_threshold


@pytest.fixture
def dataset(tmp_path) -> MapStackDataset:
    return MapStackDataset(filepath=str(tmp_path / "maps"))


def _file(folder, name, value) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", np.full((2, 3, 4), value, np.float32))
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def _names(dataset):
    return sorted(path.name for path in dataset._filepath.iterdir())


def test_stacks_are_opened_by_name_without_reading_them(dataset):
    dataset.save({"gradients": np.ones((1, 2, 2)), "discrepancy": np.full((1, 2, 2), 2.0)})
    found = dataset.load()
    assert {name: stack.max() for name, stack in found.items()} == {"discrepancy": 2, "gradients": 1}
    assert all(isinstance(stack, np.memmap) and stack.dtype == np.float32 for stack in found.values())


def test_a_stack_that_is_a_file_gets_a_second_name(dataset, tmp_path):
    dataset.save({"gradients": _file(tmp_path / "store", "raw", 1.0)})
    assert (tmp_path / "maps/gradients.npy").samefile(tmp_path / "store/raw.npy")
    assert dataset.load()["gradients"].max() == 1


def test_a_newer_stack_does_not_change_the_file_that_shared_its_name(dataset, tmp_path):
    dataset.save({"gradients": _file(tmp_path / "store", "raw", 1.0)})
    dataset.save({"gradients": np.full((2, 3, 4), 5.0)})
    assert np.load(tmp_path / "store/raw.npy").max() == 1
    assert dataset.load()["gradients"].max() == 5


def test_a_stack_may_be_saved_over_itself_or_over_another_file(dataset, tmp_path):
    dataset.save({"gradients": _file(tmp_path / "store", "raw", 1.0)})
    dataset.save({"gradients": dataset.load()["gradients"]})
    assert dataset.load()["gradients"].max() == 1
    dataset.save({"gradients": _file(tmp_path / "store", "other", 2.0)})
    assert (tmp_path / "maps/gradients.npy").samefile(tmp_path / "store/other.npy")
    assert _names(dataset) == ["gradients.npy"]


def test_part_of_a_file_is_written_out(dataset, tmp_path):
    dataset.save({"gradients": _file(tmp_path / "store", "raw", 1.0)[1:]})
    assert dataset.load()["gradients"].shape == (1, 3, 4)


def test_without_a_second_name_the_stack_is_copied(dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another disk")

    monkeypatch.setattr("kdad.datasets.results.os.link", refuse)
    dataset.save({"gradients": _file(tmp_path / "store", "raw", 1.0)})
    assert not (tmp_path / "maps/gradients.npy").samefile(tmp_path / "store/raw.npy")
    assert dataset.load()["gradients"].max() == 1


def test_stale_stacks_are_removed_and_nothing_else(dataset, tmp_path):
    dataset.save({"gradients": np.ones((1, 2, 2)), "smooth_grad": np.ones((1, 2, 2))})
    (tmp_path / "maps/notes.txt").touch()
    dataset.save({"gradients": np.ones((1, 2, 2))})
    assert _names(dataset) == ["gradients.npy", "notes.txt"]
    dataset.save({})
    assert dataset.load() == {}


def test_it_exists_when_something_was_saved(dataset):
    assert not dataset.exists()
    dataset.save({})
    assert dataset.exists()


def test_an_interruption_leaves_the_older_stack_and_nothing_else(dataset, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    dataset.save({"gradients": np.ones((2, 3, 4))})
    monkeypatch.setattr("kdad.datasets.results.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dataset.save({"gradients": np.zeros((2, 3, 4))})
    assert _names(dataset) == ["gradients.npy"]
    np.testing.assert_array_equal(dataset.load()["gradients"], 1)


def test_a_finished_table_is_read_where_its_node_wrote_it(tmp_path):
    dataset = PredictionsDataset(filepath=str(tmp_path / "photos"))
    dataset.save(write_predictions(tmp_path / "photos", []))
    assert len(dataset.load().table) == 0
    with pytest.raises(DatasetError, match="elsewhere', and not in"):
        dataset.save(write_predictions(tmp_path / "elsewhere", []))


def test_an_output_folder_is_a_place_that_need_not_be_there(tmp_path):
    dataset = OutputFolderDataset(path=str(tmp_path / "photos"))
    assert dataset.load() == tmp_path / "photos"
    with pytest.raises(DatasetError, match="read, never written"):
        dataset.save(tmp_path)


RESULT = CaseResult(
    axis="form",
    variant="a",
    category="brick",
    seed=0,
    system="mkd",
    status="finished",
    metrics={"image_auroc": 0.5, "pro_auc": None},
    scores=[0.1, 1 / 3],
    labels=[0, 1],
)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ThresholdDataset, quantile_threshold(np.arange(9.0) / 7, 0.9)),
        (CaseResultsDataset, [RESULT, RESULT.model_copy(update={"seed": 1})]),
        (CaseResultsDataset, []),
    ],
)
def test_what_is_saved_is_loaded_again(tmp_path, kind, value):
    dataset = kind(filepath=str(tmp_path / "new/file.json"))
    assert not dataset.exists()
    dataset.save(value)
    assert dataset.exists()
    assert dataset.load() == value
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.json"]


def test_an_interruption_leaves_the_older_result(tmp_path, monkeypatch):
    dataset = CaseResultsDataset(filepath=str(tmp_path / "file.json"))
    dataset.save([RESULT])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdad.storage.replacing.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        dataset.save([RESULT.model_copy(update={"seed": 7})])
    assert dataset.load() == [RESULT]


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
