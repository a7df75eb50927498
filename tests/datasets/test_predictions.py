"""An inference: a stream goes in, a table comes out; complete, or as it was before."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from kdad.datasets.predictions import COLUMNS, PredictionsDataset, PredictionStream
from kdad.detectors.prediction import FilePrediction, Prediction
from kdad.errors import InputError

SIZE = (4, 6)


def judged(score: float, side: int = 20, with_map: bool = True) -> FilePrediction:
    anomaly_map = np.full(SIZE, score, dtype=np.float32) if with_map else None
    image = np.full((3, side, 2 * side), 0.5, dtype=np.float32)
    return FilePrediction(Path("x"), image, Prediction(score, 0.5, score > 0.5, 0.25, anomaly_map), 1.234)


UNREADABLE = FilePrediction(Path("x"), None, None, 1.0, "'x' is no image")
FILES = [("good/a.png", judged(0.1), 0), ("torn/ä 2.png", judged(0.9), 1), ("NA", UNREADABLE, None)]


def stream(files=FILES, maps=True, heat_maps=True) -> PredictionStream:
    return PredictionStream(iter(files), len(files), (0.0, 1.0), heat_maps, SIZE if maps else None)


@pytest.fixture
def dataset(tmp_path) -> PredictionsDataset:
    return PredictionsDataset(filepath=str(tmp_path / "new/photos"), reports=["predictions.html"])


def names(dataset) -> list[str]:
    return sorted(path.relative_to(dataset._filepath).as_posix() for path in dataset._filepath.rglob("*.*"))


def test_the_table_says_what_was_said_of_each_file(dataset):
    dataset.save(stream())
    table = dataset.load().table
    assert tuple(table.columns) == COLUMNS
    assert table["path"].tolist() == ["good/a.png", "torn/ä 2.png", "NA"]
    readable = table.iloc[:2]
    assert readable["score"].tolist() == [0.1, 0.9]
    assert readable["decision"].tolist() == [0, 1]
    assert readable[["threshold", "percentile", "milliseconds"]].values.tolist() == [[0.5, 0.25, 1.23]] * 2
    assert readable[["height", "width"]].values.tolist() == [[20, 40]] * 2
    assert table["label"].tolist()[:2] == [0, 1]
    unreadable = table.iloc[2]
    assert unreadable["problem"] == "'x' is no image"
    assert unreadable[["score", "decision", "label", "heat_map", "thumbnail"]].isna().all()


def test_pictures_and_maps_lie_beside_the_table(dataset):
    dataset.save(stream())
    assert names(dataset) == [
        *("heat_maps/good/a.png.png", "heat_maps/torn/ä 2.png.png", "maps.npy", "predictions.csv"),
        *("thumbnails/000000.png", "thumbnails/000001.png"),
    ]
    found = dataset.load()
    assert found.thumbnail(found.table["thumbnail"][1]).size == (40, 20)
    assert (dataset._filepath / found.table["heat_map"][0]).is_file()
    maps = np.load(dataset._filepath / "maps.npy")
    assert maps.shape == (3, *SIZE)
    assert maps[:2, 0, 0].tolist() == pytest.approx([0.1, 0.9])
    assert np.isnan(maps[2]).all()


def test_what_is_not_asked_for_is_not_written(dataset):
    dataset.save(stream(maps=False, heat_maps=False))
    assert names(dataset) == ["predictions.csv", "thumbnails/000000.png", "thumbnails/000001.png"]
    assert dataset.load().table["heat_map"].isna().all()


def test_a_detector_without_maps_has_thumbnails_alone(dataset):
    dataset.save(stream([("a.png", judged(0.1, with_map=False), None)], maps=False))
    assert names(dataset) == ["predictions.csv", "thumbnails/000000.png"]


def test_files_are_judged_one_after_another_as_they_are_written(dataset):
    seen = []

    def files():
        for number in range(3):
            seen.append(len(list(dataset._filepath.parent.rglob("*.png"))))
            yield f"{number}.png", judged(0.1), None

    dataset.save(PredictionStream(files(), 3, (0.0, 1.0), False, None))
    assert seen == [0, 1, 2]


def test_an_older_result_goes_with_its_reports_and_what_is_not_its_own_stays(dataset):
    dataset.save(stream())
    for name in ("predictions.html", "notes.txt"):
        (dataset._filepath / name).touch()
    dataset.save(stream([("b.png", judged(0.3), None)], maps=False))
    assert names(dataset) == ["heat_maps/b.png.png", "notes.txt", "predictions.csv", "thumbnails/000000.png"]
    assert dataset.load().table["path"].tolist() == ["b.png"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interruption_leaves_the_older_result(dataset, error):
    dataset.save(stream())
    before = {name: (dataset._filepath / name).read_bytes() for name in names(dataset)}

    def files():
        yield "b.png", judged(0.3), None
        raise error

    with pytest.raises((DatasetError, KeyboardInterrupt)):  # Kedro wraps an error, and no interruption
        dataset.save(PredictionStream(files(), 2, None, True, SIZE))
    assert {name: (dataset._filepath / name).read_bytes() for name in names(dataset)} == before
    assert [path.name for path in dataset._filepath.parent.iterdir()] == ["photos"]


def test_what_a_killed_process_left_is_cleared(dataset):
    left = dataset._filepath.with_name("photos.partial") / "heat_maps"
    left.mkdir(parents=True)
    (left / "left.png").touch()
    dataset.save(stream(maps=False, heat_maps=False))
    assert [path.name for path in dataset._filepath.parent.iterdir()] == ["photos"]
    assert "heat_maps/left.png" not in names(dataset)


def test_a_folder_that_holds_something_else_is_left_alone(dataset):
    dataset._filepath.mkdir(parents=True)
    dataset.save(stream(maps=False))  # empty
    (dataset._filepath / "predictions.csv").unlink()
    with pytest.raises(
        DatasetError, match=r"is there already and holds no predictions; give inference\.output"
    ) as caught:
        dataset.save(stream())
    assert isinstance(caught.value.__cause__, InputError)
    assert "thumbnails/000000.png" in names(dataset)


@pytest.mark.parametrize(
    ("images", "message"), [("", "among the images that are judged"), ("photos/raw", "lie in the")]
)
def test_results_and_images_lie_apart(dataset, images, message):
    place = dataset._filepath.parent / images
    place.mkdir(parents=True)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset.save(replace(stream(), place=place))
    assert isinstance(caught.value.__cause__, InputError)


def test_heat_maps_whose_names_would_meet_are_numbered(dataset):
    found = [(name, judged(0.1), None) for name in ("a.png", "A.png", "a.png.png/b.png", "x" * 250 + ".png")]
    dataset.save(stream(found, maps=False))
    places = dataset.load().table["heat_map"].tolist()
    assert places == ["heat_maps/a.png.png", *(f"heat_maps/{number:06d}.png" for number in (1, 2, 3))]
    assert all((dataset._filepath / place).is_file() for place in places)


def test_a_name_that_is_no_text_is_written_with_escapes(dataset):
    dataset.save(stream([("bad\udcff.png", judged(0.1), None)], maps=False))
    assert dataset.load().table["path"].tolist() == ["bad\\udcff.png"]


def test_a_process_killed_between_the_two_moves_of_the_swap_leaves_the_older_result(dataset, monkeypatch):
    dataset.save(stream())
    (dataset._filepath / "notes.txt").touch()
    before = {name: (dataset._filepath / name).read_bytes() for name in names(dataset)}
    moved = os.replace

    def killed(source, target):
        if os.fspath(source).endswith(".partial"):
            raise SystemExit
        moved(source, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("kdad.storage.replacing.os.replace", killed)
        patch.setattr("kdad.storage.replacing._put_back", lambda *_: None)  # it has no time for that
        dataset.save(stream([("b.png", judged(0.3), None)]))
    assert not dataset._filepath.exists()
    assert dataset.load().table["path"].tolist() == ["good/a.png", "torn/ä 2.png", "NA"]
    assert {name: (dataset._filepath / name).read_bytes() for name in names(dataset)} == before
    dataset.save(stream([("b.png", judged(0.3), None)]))
    assert dataset.load().table["path"].tolist() == ["b.png"]
    assert [path.name for path in dataset._filepath.parent.iterdir()] == ["photos"]


def test_what_a_user_keeps_among_the_results_stays_as_it_is(dataset):
    dataset.save(stream())
    kept = dataset._filepath / "mine/deep"
    kept.mkdir(parents=True)
    (kept / "notes.txt").write_text("notes")
    (dataset._filepath / "link").symlink_to("nowhere")
    dataset.save(stream())
    assert (kept / "notes.txt").read_text() == "notes"
    assert (dataset._filepath / "link").readlink() == Path("nowhere")


def test_a_link_to_the_results_stays_a_link(dataset, tmp_path):
    (tmp_path / "disk").mkdir()
    dataset._filepath.parent.mkdir()
    dataset._filepath.symlink_to(tmp_path / "disk")
    dataset.save(stream())
    dataset.save(stream([("b.png", judged(0.3), None)]))
    assert dataset._filepath.is_symlink()
    assert dataset.load().table["path"].tolist() == ["b.png"]
    assert (tmp_path / "disk/predictions.csv").exists()
