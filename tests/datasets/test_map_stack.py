"""Stacks of maps: just what was saved last, without a second copy of what is a file already."""

import numpy as np
import pytest

from kdad.datasets.map_stack import MapStackDataset


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

    monkeypatch.setattr("kdad.datasets.map_stack.os.link", refuse)
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
    monkeypatch.setattr("kdad.datasets.map_stack.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dataset.save({"gradients": np.zeros((2, 3, 4))})
    assert _names(dataset) == ["gradients.npy"]
    np.testing.assert_array_equal(dataset.load()["gradients"], 1)
