"""A folder is watched: files are scored as inference scores them, once each, and what ends the watch loses nothing."""

import json
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from PIL import Image
from scipy import stats

from kdad.inference.arrivals import IncomingFiles
from kept_detectors import DETECTOR, nothing_new, predict, read_predictions, train_on_bricks, write_crop
from projects import half_written, run_pipeline

FAST = {"settle_seconds": 0.2, "patience_seconds": 0.4, "page_seconds": 0.05, "idle_seconds": 1.0}


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("watch"), migrated_database)


@pytest.fixture
def camera(tmp_path) -> Path:
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(project, camera, tmp_path):
    """Watch the camera's folder until nothing comes; return the table by the images' paths."""

    def run(**block) -> pd.DataFrame:
        watching = FAST | block.pop("watching", {})
        wanted = {"images": str(camera), "detector": str(DETECTOR), "watch": True, "output": str(tmp_path / "out")}
        run_pipeline(
            project, "test", "inference", runtime_params={"inference": wanted | block | {"watching": watching}}
        )
        return read_predictions(tmp_path / "out")

    return run


def _entries(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out/journal.jsonl").read_text().splitlines()[1:]]


def test_files_are_predicted_as_inference_predicts_them(project, camera, tmp_path, watch):
    for number in range(4):
        write_crop(camera / f"{number}.png", 800 + number, torn=number == 3)
    (camera / "torn.png").write_bytes((camera / "0.png").read_bytes()[:300])
    table = watch()
    assert sorted(table.index) == ["0.png", "1.png", "2.png", "3.png", "torn.png"]
    assert "torn.png: cannot be read as an image" in table.loc["torn.png", "problem"]
    expected = predict(project, camera) if (camera / "torn.png").unlink() is None else None
    np.testing.assert_allclose(table.loc[expected.index, "score"], expected["score"], rtol=1e-5)
    assert table.loc[expected.index, "decision"].tolist() == expected["decision"].tolist()
    for row in table[table["score"].notna()].itertuples():
        assert (tmp_path / "out" / row.heat_map).is_file() and (tmp_path / "out" / row.thumbnail).is_file()
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["images"], metrics["unreadable"]) == (5, 1)
    page = (tmp_path / "out/predictions.html").read_text()
    assert "4 predicted, 1 anomalous, 1 unreadable" in page and "torn.png" in page
    assert half_written(tmp_path) == []


@pytest.mark.long
def test_a_second_watch_goes_on_where_the_first_ended(camera, tmp_path, watch, caplog):
    write_crop(camera / "0.png", 1)
    first = watch()
    write_crop(camera / "1.png", 2)
    write_crop(camera / "sub/0.png", 3)
    caplog.set_level(logging.INFO)
    again = watch()
    assert sorted(again.index) == ["0.png", "1.png", "sub/0.png"]
    pd.testing.assert_frame_equal(again.loc[["0.png"]], first)
    assert "Going on: 1 files are predicted already" in caplog.text
    assert len(_entries(tmp_path)) == 3
    write_crop(camera / "0.png", 4)  # another image by the same name
    assert watch().index.tolist().count("0.png") == 2


@pytest.mark.faults
def test_a_table_that_lost_its_end_is_made_anew(camera, tmp_path, watch):
    for number in range(3):
        write_crop(camera / f"{number}.png", number)
    whole = watch()
    table = tmp_path / "out/predictions.csv"
    table.write_bytes(table.read_bytes()[:-20])
    journal = tmp_path / "out/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])  # the last line was not finished: its file is predicted again
    again = watch()
    pd.testing.assert_frame_equal(again.drop(columns="milliseconds"), whole.drop(columns="milliseconds"))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM])
def test_a_signal_ends_it_after_the_file_that_is_predicted(camera, tmp_path, watch, monkeypatch, number):
    for count in range(6):
        write_crop(camera / f"{count}.png", count)
    finish, finished = IncomingFiles.finish, []

    def told(self, arrival):
        finish(self, arrival)
        finished.append(arrival.name)
        if len(finished) == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(IncomingFiles, "finish", told)
        first = watch(watching={"idle_seconds": None})
    assert first.index.tolist() == finished == ["0.png", "1.png"]
    assert signal.getsignal(number) is before
    assert watch().index.tolist() == [f"{count}.png" for count in range(6)]


@pytest.mark.long
def test_table_and_page_grow_while_it_runs(camera, tmp_path, watch):
    feature_set: list[int] = []

    def put() -> None:
        try:
            for count in range(3):
                write_crop(camera / f"{count}.png", count)
                _wait_for(lambda count=count: f"{count}.png" in (tmp_path / "out/predictions.html").read_text())
                feature_set.append(len(read_predictions(tmp_path / "out")))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=put)
    thread.start()
    watch(watching={"idle_seconds": None})
    thread.join()
    assert feature_set == [1, 2, 3]


def _wait_for(come) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(FileNotFoundError):
            if come():
                return
        time.sleep(0.05)
    raise AssertionError("nothing came")


def test_it_ends_when_its_time_is_over(watch):
    started = time.monotonic()
    assert len(watch(watching={"idle_seconds": None, "seconds": 0.5})) == 0
    assert time.monotonic() - started < 60


def test_the_page_holds_the_latest_and_the_table_all(camera, tmp_path, watch):
    for number in range(5):
        write_crop(camera / f"{number}.png", number)
        os.utime(camera / f"{number}.png", (1000 + number, 1000 + number))
    assert len(watch(watching={"page_images": 2})) == 5
    page = (tmp_path / "out/predictions.html").read_text()
    assert [f"{number}.png" in page.partition("<table")[2] for number in range(5)] == [False] * 3 + [True] * 2
    assert "shown are the latest 2, all are in predictions.csv" in page


@pytest.mark.long
def test_drift_is_told_in_log_page_and_metrics(camera, tmp_path, watch, caplog):
    generator = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(generator.integers(0, 256, (64, 64), dtype=np.uint8)).save(camera / f"{number:02}.png")
    watch(drift={"window": 40})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("Drift after 20 images" in message or "Drift after 24 images" in message for message in warnings)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["drift_images"], metrics["drift_changed"]) == (20, 1)
    assert "no longer holds, if these images are normal" in (tmp_path / "out/predictions.html").read_text()


@pytest.mark.long
def test_large_images_are_predicted_by_tiles(project, camera, tmp_path, watch):
    for number in range(9):
        write_crop(tmp_path / f"normal/{number}.png", number, 100, 100)
    block = {"detector": str(DETECTOR), "images": str(tmp_path / "normal"), "tiles": {"overlap": 16}}
    block |= {"output": str(tmp_path / "new"), "value": 0.8}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    write_crop(camera / "0.png", 0, 100, 100)
    table = watch(detector=str(tmp_path / "new/detector"), tiles={"overlap": 16})
    scores = pd.read_csv(tmp_path / "new/calibration_scores.csv").set_index("path")["score"]
    assert table.loc["0.png", "score"] == pytest.approx(scores["0.png"], rel=1e-6)


@pytest.mark.long
def test_a_watch_of_another_detector_or_place_is_refused(project, camera, tmp_path, watch):
    write_crop(camera / "0.png", 0)
    watch()
    with (
        nothing_new(tmp_path),
        pytest.raises(KedroCliError, match="holds what was predicted with threshold"),
    ):
        block = {"detector": str(DETECTOR), "value": 0.5, "output": str(project / "other")}
        run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
        watch(detector=str(project / "other/detector"))
    with nothing_new(tmp_path), pytest.raises(KedroCliError, match="holds what a watch has predicted"):
        predict(project, camera, output=str(tmp_path / "out"))
    with nothing_new(tmp_path), pytest.raises(KedroCliError, match="among the images that are predicted"):
        watch(output=str(camera / "out"))
    predict(project, camera, output=str(tmp_path / "predicted"))
    with nothing_new(tmp_path), pytest.raises(KedroCliError, match="holds no watch's predictions"):
        watch(output=str(tmp_path / "predicted"))


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": "nowhere"}, "which is no folder; make it"),
        ({"images": None}, "inference.images is not given"),
        ({"maps": True}, "maps.npy is of a known number of images"),
        ({"watching": {"settle_seconds": -1}}, "inference.watching.settle_seconds"),
    ],
)
def test_what_cannot_be_watched(watch, tmp_path, given, message):
    with nothing_new(tmp_path), pytest.raises(KedroCliError, match=message):
        watch(**given)


@pytest.fixture(scope="module")
def calibrated(project) -> Path:
    """The detector with a threshold that was set on 40 normal images."""
    for number in range(40):
        write_crop(project / f"normal/{number}.png", 500 + number)
    block = {"detector": str(DETECTOR), "images": str(project / "normal"), "output": str(project / "new")}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    return project / "new/detector"


def _write(folder: Path, torn: bool = False) -> Path:
    for number in range(24):
        write_crop(folder / f"{number:03}.png", 700 + number, torn=torn)
    return folder


def _found(project: Path, caplog) -> tuple[dict, str, list[logging.LogRecord]]:
    records = [record for record in caplog.records if record.getMessage().startswith("Drift: ")]
    metrics = json.loads((project / "predicted/metrics.json").read_text())
    return metrics, (project / "predicted/predictions.html").read_text(), records


@pytest.mark.long
def test_like_images_are_no_drift(project, calibrated, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    table = predict(project, _write(tmp_path / "like"), calibrated)
    metrics, page, (said,) = _found(project, caplog)
    validation = json.loads((calibrated / "detector.json").read_text())["validation_scores"]
    expected = stats.ks_2samp(table["score"], validation)
    assert metrics["drift_ks_p_value"] == pytest.approx(expected.pvalue)
    assert (metrics["drift_images"], metrics["drift_changed"]) == (24, 0)
    assert metrics["drift_alarm_rate"] == table["decision"].mean()
    assert "no sign that the promised false positive rate no longer holds" in page
    assert said.levelno == logging.INFO


def test_many_torn_images_are_told_in_log_page_and_metrics(project, calibrated, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    predict(project, _write(tmp_path / "torn", torn=True), calibrated)
    metrics, page, (said,) = _found(project, caplog)
    assert metrics["drift_changed"] == 1
    assert "there may be more real anomalies than usual, or the images have changed" in page
    assert said.levelno == logging.WARNING


@pytest.mark.long
def test_of_labelled_folders_the_normal_images_are_compared(project, calibrated, caplog):
    predict(project, project / "pictures/brick/test", calibrated)
    metrics, page, _ = _found(project, caplog)
    table = read_predictions(project / "predicted")
    assert metrics["drift_images"] == 6
    assert metrics["drift_alarm_rate"] == table.loc[table["label"] == 0, "decision"].mean()
    assert "cannot be told by 6 normal images; it takes 20" in page
