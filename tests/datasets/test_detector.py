"""Detectors in folders and by where they lie: opened, replaced as a whole, copied, fetched."""

import json
import os
import shutil
from pathlib import Path

import mlflow
import pytest
from kedro.io import DatasetError

from kdad.datasets.detector import DetectorCopiesDataset, DetectorDataset, LocatedDetectorDataset
from kdad.datasets.images import ImageFilesDataset
from kdad.detectors.folder import FACTS
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.project.places import find_detector
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


@pytest.fixture
def place(tmp_path, kept):
    """Put a copy of the detector at a place of the project, some seconds after 1970."""

    def put(name, seconds=0):
        shutil.copytree(kept, tmp_path / "project" / name)
        os.utime(tmp_path / "project" / name / FACTS, (seconds, seconds))
        return tmp_path / "project" / name

    return put


def test_a_folder_is_opened_and_remembered(tmp_path, kept):
    dataset = LocatedDetectorDataset(location=str(kept), project=str(tmp_path))
    record = dataset.load().record
    assert {name: record[name] for name in ("dataset", "seed", "folder")} == {
        "dataset": "memory",
        "seed": 0,
        "folder": str(kept),
    }
    assert record["found"] == "the folder given"
    with pytest.raises(DatasetError, match="never written"):
        dataset.save("anything")


def test_a_folder_without_a_root_is_of_the_project_or_of_where_one_is(tmp_path, place, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    inside = place("data/mine")
    assert find_detector("data/mine", tmp_path / "project")[0] == inside
    assert find_detector("data/other", tmp_path / "project")[0] == here / "data/other"


def test_a_tilde_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_detector("~/mine", tmp_path / "project")[0] == tmp_path / "mine"


def test_the_latest_is_the_newest_of_any_set_category_and_system(tmp_path, place):
    place("data/06_models/textures/brick/mkd/detector", 300)
    newest = place("data/06_models/digits/class_8/stfpm/detector", 400)
    place("data/06_models/textures/grass/mkd/detector", 200)
    place("data/06_models/digits/class_8/variational_autoencoder/detector", 500)  # of a table of baselines
    place("elsewhere/a/b/c/detector", 900)
    assert find_detector("latest", tmp_path / "project") == (
        newest,
        "the last that a system's pipeline made, of 3 below data/06_models",
    )
    assert LocatedDetectorDataset(location="latest", project=str(tmp_path / "project")).load().record["folder"] == str(
        newest
    )


def test_half_made_and_fetched_detectors_are_not_the_latest(tmp_path, place):
    kept = place("data/06_models/textures/brick/mkd/detector", 100)
    place("data/06_models/textures/brick/mkd/fitted", 200)
    place("data/06_models/textures/brick/mkd/detector.partial", 300)
    place("data/06_models/downloaded/run/detector", 400)
    assert find_detector("latest", tmp_path / "project")[0] == kept


def _say(folder, **record):
    facts, state = json.loads((folder / "detector.json").read_text()), (folder / "detector.json").stat()
    (folder / "detector.json").write_text(json.dumps(facts | {"made_by": facts["made_by"] | record}))
    os.utime(folder / "detector.json", (state.st_atime, state.st_mtime))


def test_where_several_may_be_the_latest_it_is_a_question(tmp_path, place):
    first = place("data/06_models/textures/brick/mkd/detector", 100)
    calibrated = place("data/06_models/calibrated/textures_brick_mkd/photos-1/f1/detector", 200)
    place("data/06_models/calibrated/other/photos-1/f1/detector", 300)
    assert find_detector("latest", tmp_path / "project")[0] == first  # neither was made from it
    _say(calibrated, calibrated_from=str(first))
    with pytest.raises(
        InputError, match=r"any of 2 detectors; give the folder of one:\n  data/06_models/calibrated/tex"
    ):
        find_detector("latest", tmp_path / "project")
    second = place("data/06_models/textures/brick/stfpm/detector", 400)
    assert find_detector("latest", tmp_path / "project")[0] == second
    for folder in (first, second):
        _say(folder, mlflow_run="12ab")
    with pytest.raises(InputError, match=r"(?s)any of 2 detectors.*brick/mkd.*brick/stfpm"):
        find_detector("latest", tmp_path / "project")


def test_without_any_detector_the_message_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="there is no detector in 'data/06_models' yet; run a pipeline"):
        find_detector("latest", tmp_path)
    with pytest.raises(DatasetError, match="no detector") as caught:
        LocatedDetectorDataset(location="latest", project=str(tmp_path)).load()
    assert isinstance(caught.value.__cause__, InputError)


def test_a_new_detector_may_not_take_the_place_of_the_one_that_it_is_made_from(tmp_path, place):
    first, other = place("a/detector"), place("b/detector")
    project = str(tmp_path / "project")
    with pytest.raises(DatasetError, match="would take the place of the one that it is made from"):
        LocatedDetectorDataset(location=str(first), project=project, successor="a/../a/detector").load()
    LocatedDetectorDataset(location=str(first), project=project, successor=str(other)).load()
    LocatedDetectorDataset(location=str(first), project=project, successor="c/detector").load()
    (tmp_path / "project/notes").mkdir()
    LocatedDetectorDataset(location=str(first), project=project, successor="notes").load()
    (tmp_path / "project/notes/text").touch()
    with pytest.raises(DatasetError, match="is there already and is no detector"):
        LocatedDetectorDataset(location=str(first), project=project, successor="notes").load()


@pytest.fixture
def run(tmp_path, migrated_database, kept) -> str:
    """A finished run of MLflow with that detector as its artifact; return its ID."""
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    client = mlflow.MlflowClient(_tracking(tmp_path))
    experiment = client.create_experiment("trial", (tmp_path / "mlruns").as_uri())
    found = client.create_run(experiment).info.run_id
    client.log_artifacts(found, str(kept), "detector")
    client.set_terminated(found)
    return found


def _tracking(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.mark.parametrize("form", ["runs:/{}", "runs:/{}/", "runs:/{}/detector"])
def test_the_detector_of_a_run_is_fetched(tmp_path, run, form):
    found, how = find_detector(form.format(run), tmp_path / "project", _tracking(tmp_path))
    assert how == form.format(run)
    assert found == tmp_path / f"project/data/06_models/downloaded/{run}/detector"
    loaded = LocatedDetectorDataset(
        location=form.format(run), project=str(tmp_path / "project"), tracking=_tracking(tmp_path)
    ).load()
    assert loaded.record["dataset"] == "memory"


def test_a_run_that_was_fetched_before_is_fetched_anew_and_whole(tmp_path, run):
    found, _ = find_detector(f"runs:/{run}", tmp_path / "project", _tracking(tmp_path))
    (found / "left").touch()
    (found / FACTS).unlink()
    assert (find_detector(f"runs:/{run}", tmp_path / "project", _tracking(tmp_path))[0] / FACTS).is_file()
    assert not (found / "left").exists()


def test_an_unknown_run_is_one_message(tmp_path, run):
    with pytest.raises(InputError) as caught:
        find_detector("runs:/0123456789abcdef", tmp_path / "project", _tracking(tmp_path))
    assert str(caught.value).startswith("the run '0123456789abcdef' has no detector that could be fetched (")
    assert str(caught.value).endswith("check its ID")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "project/data/06_models/downloaded").iterdir()) == []


@pytest.mark.parametrize("location", ["runs:/", "runs:/../../x", "runs:/a/b"])
def test_what_is_no_id_names_no_folder(tmp_path, location):
    with pytest.raises(InputError, match="is no ID of an MLflow run"):
        find_detector(location, tmp_path, _tracking(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_detector_is_one_message(tmp_path, run):
    client = mlflow.MlflowClient(_tracking(tmp_path))
    empty = client.create_run(client.get_experiment_by_name("trial").experiment_id).info.run_id
    with pytest.raises(InputError, match=f"the run '{empty}' has no detector that could be fetched"):
        find_detector(f"runs:/{empty}", tmp_path / "project", _tracking(tmp_path))


@pytest.fixture
def photos(tmp_path):
    for name in ("good/b.png", "good/a.JPG", "torn/1.png", "ground_truth/torn/1.png", "notes.txt", ".hidden/x.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def files(place, **more) -> ImageFilesDataset:
    return ImageFilesDataset(place=place, setting="inference.images", **more)


def test_files_are_listed_with_their_names_and_without_masks(photos):
    found = files(str(photos)).load()
    assert found.names == ["good/a.JPG", "good/b.png", "torn/1.png"]
    assert found.paths == [photos / name for name in found.names]


def test_one_file_is_predicted_under_its_own_name(photos):
    file = photos / "good/b.png"
    found = files(str(file)).load()
    assert (found.names, found.paths) == (["b.png"], [file])


def test_a_place_that_is_needed_or_not_there_is_one_message(tmp_path):
    for place, message in ((None, "inference.images is not given"), (str(tmp_path / "nowhere"), "nowhere")):
        with pytest.raises(DatasetError, match=message) as caught:
            files(place).load()
        assert isinstance(caught.value.__cause__, InputError)


def test_no_place_is_none_where_none_is_needed(photos):
    assert files(None, required=False).load() is None
    assert files(str(photos), required=False).load()
    with pytest.raises(DatasetError, match="never written"):
        files(str(photos)).save("anything")
