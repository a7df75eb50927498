"""An inference: files go in, a table and pictures come out; complete, or as it was before."""

from pathlib import Path

import numpy as np
import pytest

from interruptions import swap_killed
from kdad.detectors.predictor import FilePrediction, Prediction
from kdad.errors import InputError
from kdad.images.files.fitting import place
from kdad.inference.predictions import (
    COLUMNS,
    GROUP_COLUMNS,
    Groups,
    Predictions,
    count_groups,
    read_predictions,
    write_predictions,
)
from kdad.scoring.threshold import MarkedRegion, quantile_threshold

SIZE = (4, 6)


def predicted(score: float, side: int = 20, with_map: bool = True) -> FilePrediction:
    anomaly_map = np.full(SIZE, score, dtype=np.float32) if with_map else None
    image = np.full((3, side, 2 * side), 0.5, dtype=np.float32)
    return FilePrediction(Path("x"), image, Prediction(score, 0.5, score > 0.5, 0.25, anomaly_map), 1.234)


UNREADABLE = FilePrediction(Path("x"), None, None, 1.0, "'x' is no image")
FILES = [("good/a.png", predicted(0.1), 0), ("torn/ä 2.png", predicted(0.9), 1), ("NA", UNREADABLE, None)]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "new/photos"


def write(folder: Path, files=FILES, maps=True, heat_maps=True, images: Path | None = None) -> Predictions:
    return write_predictions(folder, iter(files), images, (0.0, 1.0), heat_maps, (len(files), *SIZE) if maps else None)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_the_table_says_what_was_said_of_each_file(folder):
    write(folder)
    table = read_predictions(folder).table
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


def test_pictures_and_maps_lie_beside_the_table(folder):
    write(folder)
    assert names(folder) == [
        *("heat_maps/good/a.png", "heat_maps/torn/ä 2.png", "maps.npy", "predictions.csv"),
        *("thumbnails/000000.png", "thumbnails/000001.png"),
    ]
    found = read_predictions(folder)
    assert found.thumbnail(found.table["thumbnail"][1]).size == (40, 20)
    assert (folder / found.table["heat_map"][0]).is_file()
    maps = np.load(folder / "maps.npy")
    assert maps.shape == (3, *SIZE)
    assert maps[:2, 0, 0].tolist() == pytest.approx([0.1, 0.9])
    assert np.isnan(maps[2]).all()


def test_what_is_not_asked_for_is_not_written(folder):
    write(folder, maps=False, heat_maps=False)
    assert names(folder) == ["predictions.csv", "thumbnails/000000.png", "thumbnails/000001.png"]
    assert read_predictions(folder).table["heat_map"].isna().all()


def test_a_detector_without_maps_has_thumbnails_alone(folder):
    write(folder, [("a.png", predicted(0.1, with_map=False), None)], maps=False)
    assert names(folder) == ["predictions.csv", "thumbnails/000000.png"]


def test_files_are_predicted_one_after_another_as_they_are_written(folder):
    seen = []

    def files():
        for number in range(3):
            seen.append(len(list(folder.parent.rglob("*.png"))))
            yield f"{number}.png", predicted(0.1), None

    write_predictions(folder, files(), heat_maps=False)
    assert seen == [0, 1, 2]


def test_an_older_result_goes_with_its_reports_and_what_is_not_its_own_stays(folder):
    write(folder)
    for name in ("predictions.html", "notes.txt"):
        (folder / name).touch()
    write(folder, [("b.png", predicted(0.3), None)], maps=False)
    assert names(folder) == ["heat_maps/b.png", "notes.txt", "predictions.csv", "thumbnails/000000.png"]
    assert read_predictions(folder).table["path"].tolist() == ["b.png"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interruption_leaves_the_older_result(folder, error):
    write(folder)
    before = {name: (folder / name).read_bytes() for name in names(folder)}

    def files():
        yield "b.png", predicted(0.3), None
        raise error

    with pytest.raises(error):
        write_predictions(folder, files(), map_shape=(2, *SIZE))
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_what_a_killed_process_left_is_cleared(folder):
    left = folder.with_name("photos.partial") / "heat_maps"
    left.mkdir(parents=True)
    (left / "left.png").touch()
    write(folder, maps=False, heat_maps=False)
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]
    assert "heat_maps/left.png" not in names(folder)


def test_a_folder_that_holds_something_else_is_left_alone(folder):
    folder.mkdir(parents=True)
    write(folder, maps=False)  # empty
    (folder / "predictions.csv").unlink()
    with pytest.raises(InputError, match=r"is there already and holds no predictions; give inference\.output"):
        write(folder)
    assert "thumbnails/000000.png" in names(folder)


@pytest.mark.parametrize(
    ("images", "message"), [("", "among the images that are predicted"), ("photos/raw", "lie in the")]
)
def test_results_and_images_lie_apart(folder, images, message):
    place = folder.parent / images
    place.mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        write(folder, images=place)


def test_heat_maps_whose_names_would_meet_are_numbered(folder):
    files = [(name, predicted(0.1), None) for name in ("a.jpg", "A.png", "a.png/b.png", "x" * 252 + ".png")]
    write(folder, files, maps=False)
    places = read_predictions(folder).table["heat_map"].tolist()
    assert places == ["heat_maps/a.png", "heat_maps/A.png.png", "heat_maps/000002.png", "heat_maps/000003.png"]
    assert all((folder / place).is_file() for place in places)


def test_a_name_that_is_no_text_is_written_with_escapes(folder):
    write(folder, [("bad\udcff.png", predicted(0.1), None)], maps=False)
    assert read_predictions(folder).table["path"].tolist() == ["bad\\udcff.png"]


def test_a_process_killed_between_the_two_moves_of_the_swap_leaves_the_older_result(folder, monkeypatch):
    write(folder)
    (folder / "notes.txt").touch()
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with swap_killed(monkeypatch):
        write(folder, [("b.png", predicted(0.3), None)])
    assert not folder.exists()
    assert read_predictions(folder).table["path"].tolist() == ["good/a.png", "torn/ä 2.png", "NA"]
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    write(folder, [("b.png", predicted(0.3), None)])
    assert read_predictions(folder).table["path"].tolist() == ["b.png"]
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_what_a_user_keeps_among_the_results_stays_as_it_is(folder):
    write(folder)
    kept = folder / "mine/deep"
    kept.mkdir(parents=True)
    (kept / "notes.txt").write_text("notes")
    (folder / "link").symlink_to("nowhere")
    write(folder)
    assert (kept / "notes.txt").read_text() == "notes"
    assert (folder / "link").readlink() == Path("nowhere")


def test_a_link_to_the_results_stays_a_link(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "disk")
    write(folder)
    write(folder, [("b.png", predicted(0.3), None)])
    assert folder.is_symlink()
    assert read_predictions(folder).table["path"].tolist() == ["b.png"]
    assert (tmp_path / "disk/predictions.csv").exists()


def test_groups_have_a_score_and_a_decision_where_all_their_files_have_one(folder):
    # FILES are predicted by a threshold of 0.5.
    threshold = quantile_threshold(np.array([0.1, 0.4, 0.2]), 0.5, np.array(["a", "a", "b"]), "mean")
    threshold = threshold.model_copy(update={"value": 0.5})
    assert threshold.group_value == 0.25
    for of_files, scores in (("ppq4", [0.5, 0.5, 0.7]), ("p23p", [np.nan, 0.9, 0.7])):
        predictions = (FILES[0][1], FILES[1][1], predicted(0.7), FILES[2][1])
        names = [f"{group}_{number}.png" for number, group in enumerate(of_files)]
        files = [(name, prediction, None) for name, prediction in zip(names, predictions, strict=True)]
        write_predictions(folder, iter(files), groups=Groups("^([pq])_", [threshold]))
        table = read_predictions(folder).table
        assert tuple(table.columns) == COLUMNS + GROUP_COLUMNS
        alone = [name if name[0].isdigit() else name[0] for name in names]
        assert table["group"].tolist() == alone
        assert table["group_score"].tolist() == pytest.approx([*scores, np.nan], nan_ok=True)
        decisions = [score if np.isnan(score) else float(score > 0.25) for score in (*scores, np.nan)]
        assert table["group_decision"].tolist() == pytest.approx(decisions, nan_ok=True)
        assert table["score"].tolist()[:2] == [0.1, 0.9]


def test_a_group_that_is_in_tiles_in_part_is_not_decided_on():
    whole, tiles = (
        quantile_threshold(np.array([0.1, 0.2, 0.3]) + more, 0.5, np.array(list("abc")), "max") for more in (0, 1)
    )
    groups = Groups("folder", [tiles, whole])
    rows = [("a/1", 0.15, 0.2), ("a/2", 0.25, 0.2), ("b/1", 1.5, 1.2), ("b/2", 0.25, 0.2), ("c/1", 1.1, 1.2)]
    rows = [dict(zip(("path", "score", "threshold"), row, strict=True)) for row in rows]
    for row in rows:
        groups.take(row)
    decisions = {row["path"][0]: groups.decide(row).get("group_decision") for row in rows}
    assert decisions == {"a": 1, "b": None, "c": 0}
    said, counts = count_groups(decisions)
    assert said == (
        "1 of 3 groups anomalous (a), 1 not decided on, as a file could not be read or only some are in tiles"
    )
    assert counts == {"groups": 3, "anomalous_groups": 1}


def test_marked_regions_are_listed_by_box_and_area(folder):
    image = np.zeros((3, 8, 12), np.float32)
    placed = FilePrediction(Path("x"), image, FILES[0][1].prediction, 1.0, None, place((8, 12), SIZE, "resize"))
    marked = [MarkedRegion((0, 2, 4, 4), 8), MarkedRegion((6, 0, 8, 2), 4)]
    for regions, row in ((marked, (2.0, "0 2 4 4; 6 0 8 2", "8; 4")), ([], (0.0, np.nan, np.nan))):
        write_predictions(folder, iter([("a.png", placed, None), FILES[2]]), mark=lambda *_, of=regions: of)
        table = read_predictions(folder).table
        assert table.loc[0, ["regions", "boxes", "areas"]].tolist() == pytest.approx(row, nan_ok=True)
        assert table.loc[1, ["regions", "boxes", "areas"]].isna().all()
    write(folder)
    assert read_predictions(folder).table["regions"].isna().all()
