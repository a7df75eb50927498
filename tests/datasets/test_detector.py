"""Detectors in folders: opened, replaced as a whole, copied without a second copy."""

import pytest
from kedro.io import DatasetError

from kdad.datasets.detector import DetectorCopiesDataset, DetectorDataset
from kdad.detectors.folder import FACTS
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from memory_images import MemoryImages


def test_a_detector_is_opened_as_it_was_kept(tmp_path, detector):
    dataset = DetectorDataset(filepath=str(tmp_path / "new/detector"))
    assert not dataset.exists()
    dataset.save(detector)
    assert dataset.exists()
    image = MemoryImages().image(0).transpose(1, 2, 0)
    assert dataset.load().predict(image) == detector.predict(image)


def test_what_is_no_detector_is_one_message(tmp_path):
    (tmp_path / "detector").mkdir()
    with pytest.raises(DatasetError, match="is no detector") as caught:
        DetectorDataset(filepath=str(tmp_path / "detector")).load()
    assert isinstance(caught.value.__cause__, InputError)


def test_copies_stand_in_folders_of_their_names_and_share_their_files(tmp_path, kept):
    dataset = DetectorCopiesDataset(filepath=str(tmp_path / "models"))
    dataset.save({"nearest": kept, "other": kept})
    found = dataset.load()
    assert found == {name: tmp_path / f"models/{name}/detector" for name in ("nearest", "other")}
    assert all((found["other"] / path.name).samefile(path) for path in kept.iterdir())
    assert open_detector(found["nearest"], "cpu").record == {"dataset": "memory", "seed": 0}


def test_a_copy_that_is_there_is_replaced_as_a_whole(tmp_path, kept):
    older = tmp_path / "models/nearest/detector"
    older.mkdir(parents=True)
    (older / "left.safetensors").touch()
    (tmp_path / "models/nearest/detector.partial").mkdir()  # as a killed process leaves it
    (tmp_path / "models/nearest/scores.csv").touch()
    DetectorCopiesDataset(filepath=str(tmp_path / "models")).save({"nearest": kept})
    assert {path.name for path in older.iterdir()} == {path.name for path in kept.iterdir()}
    assert {path.name for path in older.parent.iterdir()} == {"detector", "scores.csv"}


def test_a_detector_saved_over_a_copy_leaves_the_first_as_it_was(tmp_path, kept, detector):
    DetectorCopiesDataset(filepath=str(tmp_path / "models")).save({"nearest": kept})
    before = (kept / FACTS).read_bytes()
    changed = open_detector(kept, "cpu")
    changed.record = {"dataset": "another"}
    DetectorDataset(filepath=str(tmp_path / "models/nearest/detector")).save(changed)
    assert (kept / FACTS).read_bytes() == before
    assert open_detector(tmp_path / "models/nearest/detector", "cpu").record == {"dataset": "another"}


def test_without_a_second_name_files_are_copied(tmp_path, kept, monkeypatch):
    def refuse(*_):
        raise OSError("another disk")

    monkeypatch.setattr("kdad.storage.replacing.os.link", refuse)
    dataset = DetectorCopiesDataset(filepath=str(tmp_path / "models"))
    dataset.save({"nearest": kept})
    copy = dataset.load()["nearest"]
    assert not (copy / FACTS).samefile(kept / FACTS)
    assert (copy / FACTS).read_bytes() == (kept / FACTS).read_bytes()


def test_an_interrupted_copy_leaves_the_older_one(tmp_path, kept, monkeypatch):
    dataset = DetectorCopiesDataset(filepath=str(tmp_path / "models"))
    dataset.save({"nearest": kept})

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdad.datasets.detector.shutil.copytree", killed)
    with pytest.raises(KeyboardInterrupt):
        dataset.save({"nearest": kept})
    assert open_detector(dataset.load()["nearest"], "cpu").system == "baselines"
