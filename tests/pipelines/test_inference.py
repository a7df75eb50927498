"""A kept detector predicts images: the same as its own run, whatever the files are called, and all of it or nothing."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import settings
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.metrics import roc_auc_score

import kdad.detectors
from kdad.detectors.detector import Detector
from kdad.hooks.run_tracking import RunTrackingHook
from kdad.project.command_line import ExitCode
from kept_detectors import DETECTOR, REPORT, nothing_new, predict, read_predictions, train_on_bricks, write_crop
from projects import FEW, half_written, logged_runs, run_pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("inference"), migrated_database)


@pytest.fixture(scope="module")
def images(project) -> Path:
    return project / "pictures/brick/test"


@pytest.fixture(scope="module")
def table(project, images) -> pd.DataFrame:
    return predict(project, images, "latest", maps=True, output=str(project / "first"))


@pytest.fixture
def own_scores(project) -> pd.DataFrame:
    """What the run that made the detector said of the test images."""
    scores = pd.read_csv(project / REPORT / "scores.csv").query("split == 'test'")
    return scores.assign(id=scores["id"].str.removeprefix("test/")).set_index("id")


def test_scores_and_decisions_are_those_of_the_run_that_made_the_detector(table, own_scores):
    assert sorted(table.index) == sorted(own_scores.index)
    expected = own_scores.loc[table.index]
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-5)
    assert table["decision"].tolist() == expected["decision"].tolist()
    assert table["label"].tolist() == expected["label"].tolist()
    assert table["threshold"].unique() == pytest.approx([expected["threshold"].iloc[0]], rel=1e-12)


def test_percentile_is_the_share_of_held_out_images_that_score_lower(project, table):
    validation = pd.read_csv(project / REPORT / "scores.csv").query("split == 'validation'")["score"].to_numpy()
    assert len(validation) == 8
    assert table["percentile"].tolist() == [(validation < score).mean() for score in table["score"]]
    assert 0 < table["percentile"].nunique() <= 9


def test_maps_are_those_of_the_detector_and_of_its_run(project, images, table, own_scores):
    maps = np.load(project / "first/maps.npy")
    detector = kdad.detectors.load(project / DETECTOR)
    for row in (0, 7):
        np.testing.assert_allclose(maps[row], detector.predict(images / table.index[row]).map, rtol=1e-5, atol=1e-7)
    stack = np.load(project / "data/07_model_output/folder/brick/stfpm/maps/feature_distance.npy")[-len(own_scores) :]
    order = [own_scores.index.get_loc(name) for name in table.index]
    np.testing.assert_allclose(maps, stack[order], rtol=1e-4, atol=1e-6)


def test_every_picture_is_there_and_nothing_is_half_written(project, table):
    for row in table.itertuples():
        with Image.open(project / "first" / row.heat_map) as large, Image.open(project / "first" / row.thumbnail):
            assert large.size == (row.width, row.height) == (64, 64)
    assert {"contact_sheet.png", "predictions.html", "metrics.json"} <= {path.name for path in project.glob("first/*")}
    assert half_written(project) == []


def test_labels_of_the_folder_are_compared(project, table):
    metrics = json.loads((project / "first/metrics.json").read_text())
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(table["label"], table["score"]))
    assert metrics["true_positive_rate"] == table.loc[table["label"] == 1, "decision"].mean()
    assert metrics["false_positive_rate"] == table.loc[table["label"] == 0, "decision"].mean()
    assert (metrics["images"], metrics["labelled"], metrics["unreadable"]) == (12, 12, 0)


def test_images_that_the_detector_was_made_of_are_no_new_ones(project, images, table):
    whole = predict(project, images.parent, output=str(project / "whole"))
    assert set(whole.index[whole["seen"] == 1]) == {f"train/good/{number:03}.png" for number in range(20)}
    first, found = (json.loads((project / name / "metrics.json").read_text()) for name in ("first", "whole"))
    assert (found["images"], found["seen"], found["labelled"]) == (32, 20, 12)
    for name in ("image_auroc", "false_positive_rate", "drift_images", "drift_alarm_rate"):
        assert found[name] == first[name]
    assert (
        "20 images that the detector was trained or calibrated on" in (project / "whole/predictions.html").read_text()
    )


def test_the_run_is_logged_and_names_that_of_the_detector(project, table):
    (run,) = [run for run in logged_runs(project) if run.data.tags.get("detector_run") and "first" in _output_of(run)]
    (training,) = [run for run in logged_runs(project) if run.info.run_name.startswith("stfpm")]
    assert run.info.status == "FINISHED"
    assert run.data.tags["detector"] == str(project / DETECTOR)
    assert run.data.tags["detector_system"] == "stfpm"
    assert run.data.tags["detector_run"] == training.info.run_id
    assert run.data.metrics["anomalous"] == table["decision"].sum()
    assert 0 <= run.data.metrics["image_auroc"] <= 1


def _output_of(run) -> str:
    return run.data.params["inference.output"]


@pytest.mark.long
def test_the_detector_of_a_run_by_its_id_says_the_same(project, images, table):
    (training,) = [run for run in logged_runs(project) if run.info.run_name.startswith("stfpm")]
    again = predict(project, images, f"runs:/{training.info.run_id}")
    pd.testing.assert_frame_equal(
        again[["score", "decision", "percentile"]], table[["score", "decision", "percentile"]]
    )


@pytest.mark.long
def test_one_file_is_predicted_alone(project, images, table):
    alone = predict(project, images / "torn/003.png")
    assert alone.index.tolist() == ["003.png"]
    assert alone.loc["003.png", "score"] == pytest.approx(table.loc["torn/003.png", "score"], rel=1e-5)
    assert np.isnan(alone.loc["003.png", "label"])


@pytest.mark.long
def test_results_lie_in_a_folder_named_after_the_images_unless_told_otherwise(project, images):
    run_pipeline(project, "test", "inference", runtime_params={"inference": {"images": str(images / "good")}})
    found = read_predictions(project / "data/08_reporting/inference/good")
    assert len(found) == 6
    assert found["label"].tolist() == [0] * 6


@pytest.fixture
def said():
    """What the nodes say while they run."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    loggers = [logging.getLogger(f"kdad.{name}") for name in ("pipelines.inference", "inference.predictions")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.mark.long
def test_the_log_says_what_was_understood(project, said, tmp_path):
    shutil.copytree(project / "pictures/brick", tmp_path / "brick")
    write_crop(tmp_path / "brick/wide.png", 0, 64, 128)
    write_crop(tmp_path / "brick/small.png", 0, 16, 16)
    (tmp_path / "brick/notes.txt").touch()
    predict(project, tmp_path / "brick", "latest", heat_maps=False)
    text = "\n".join(said)
    for part in (
        f"Detector: stfpm, in {project / DETECTOR} (the last that a system's pipeline made, of 1 below data/06_models)",
        "Made on: folder / brick, from ",
        ", 12 training images of 64 x 64, seed 0",
        "by quantile: 11.11% of new normal images are expected above it",
        f"Images: 34 from {tmp_path / 'brick'}: 2 in the folder itself, 6 in test/good, 6 in test/torn, 20 in train/",
        "Sizes: 32 of 64 x 64, 1 of 16 x 16, 1 of 64 x 128 (height x width); 2 are resized to 64 x 64, 1 of them "
        "stretched, as they have another aspect ratio, 1 of them enlarged",
        "Labels: 26 normal (in 'good'), 6 anomalous (in folders beside it: 6 torn), 2 without label: these are "
        "predicted",
        "Left out: 6 x masks below 'ground_truth', 1 x no image (.txt)",
        f"Results: {project / 'predicted'}",
        "Found: 34 predicted, ",
    ):
        assert part in text
    page = (project / "predicted/predictions.html").read_text()
    assert "pipeline made, of 1 below data/06_models" in page
    assert "1 x no image (.txt)" in page


ODD_NAMES = ["a, b.png", 'say "no".png', "line\nbreak.png", "return\r.png", "50%25 #1?.png", "[/red] [b].png"]
ODD_NAMES += ["twin.png", "twin.bmp", "Twin.png", "deep/er/ä ö.webp", "deep/twin.png", "x" * 251 + ".png", "NA.png"]
ODD_NAMES += ["a.png.png/inside.png", "a.png"]
ODD_BYTES = b"caf\xe9.png"


@pytest.fixture(scope="module")
def odd(project, tmp_path_factory) -> Path:
    """Score files of odd names and of several sizes, among them two that are no images; return the results' folder."""
    base = tmp_path_factory.mktemp("odd") / "folder of #odd 100% names"
    for number, name in enumerate(ODD_NAMES):
        write_crop(base / name, number, 48 + number, 96)
    os.link(base / "a.png", os.fsencode(base) + b"/" + ODD_BYTES)
    (base / "linked.png").symlink_to(base / "a.png")
    (base / "cut.png").write_bytes((base / "a.png").read_bytes()[:300])
    (base / "words.jpg").write_text("no image")
    with pytest.raises(
        KedroCliError, match=r"2 of 19 files could not be read; all others are predicted, see .*odd"
    ) as end:
        predict(project, base, output=str(project / "odd"), batch_size=4, maps=True)
    assert end.value.exit_code == ExitCode.INCOMPLETE
    return project / "odd"


def test_files_of_odd_names_are_predicted_and_keep_their_names(odd):
    table = read_predictions(odd)
    assert sorted(table.index) == sorted([*ODD_NAMES, "caf\\udce9.png", "linked.png", "cut.png", "words.jpg"])
    assert table.loc["linked.png", "score"] == table.loc["a.png", "score"]
    predicted = table[table["score"].notna()]
    assert len(predicted) == 17
    assert predicted["heat_map"].nunique() == predicted["thumbnail"].nunique() == 17
    for row in predicted.itertuples():
        with Image.open(odd / row.heat_map) as large:
            assert large.size == (row.width, row.height)
    assert table.loc["deep/er/ä ö.webp", "heat_map"] == "heat_maps/deep/er/ä ö.png"
    maps = np.load(odd / "maps.npy")
    assert np.isnan(maps).all(axis=(1, 2)).tolist() == table["score"].isna().tolist()


def test_files_that_cannot_be_read_are_listed_with_their_reason(odd):
    table = read_predictions(odd)
    problems = table.loc[table["score"].isna(), "problem"]
    assert sorted(problems.index) == ["cut.png", "words.jpg"]
    assert problems.str.contains("cannot be read as an image").all()
    assert {"contact_sheet.png", "predictions.html", "metrics.json"} <= {path.name for path in odd.iterdir()}
    assert json.loads((odd / "metrics.json").read_text())["unreadable"] == 2


@pytest.mark.browser
def test_the_page_that_a_run_has_left_shows_every_file(odd):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        browser.get((odd / "predictions.html").as_uri())
        loaded = browser.execute_async_script("""
            const images = [...document.images], done = arguments[0];
            for (const image of images) image.loading = "eager";
            Promise.allSettled(images.map(image => image.decode()))
                .then(() => done(images.filter(image => image.naturalWidth > 0).length));
        """)
        assert loaded == 17 + 1  # and the scores around the threshold
        shown = [cell.text for cell in browser.find_elements("css selector", "#predicted tbody .score")]
        ratios = [float(text.split(" ")[0]) for text in shown]
        assert ratios == sorted(ratios, reverse=True)
        links = [link.get_attribute("href") for link in browser.find_elements("css selector", "#predicted a")]
        assert len(links) == 17
        for link in links:
            browser.get(link)
            assert browser.execute_script("return document.images[0].naturalWidth") == 96
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        browser.quit()


def _ctrl_c(*_):
    raise KeyboardInterrupt


def _sigterm(*_):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize(("stop", "error"), [(_ctrl_c, KeyboardInterrupt), (_sigterm, SystemExit)])
def test_a_run_that_is_stopped_leaves_the_older_results(project, images, table, monkeypatch, stop, error):
    predict_files = Detector.predict_files

    def stopped(self, paths, *arguments):
        yield next(predict_files(self, paths, *arguments))
        stop()

    monkeypatch.setattr(Detector, "predict_files", stopped)
    with nothing_new(project), pytest.raises(error):
        predict(project, images, output=str(project / "first"))
    assert half_written(project) == []
    next(hook for hook in settings.HOOKS if isinstance(hook, RunTrackingHook)).close()  # as the end of the process does
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_run_takes_the_place_of_the_first_and_of_its_reports(project, images):
    predict(project, images, output=str(project / "again"), maps=True)
    assert {path.name for path in project.glob("again/*")} == {
        *("contact_sheet.png", "predictions.csv", "predictions.html", "metrics.json", "thumbnails"),
        *("heat_maps", "maps.npy"),
    }
    (project / "again/mine.txt").touch()
    predict(project, images / "torn", output=str(project / "again"), heat_maps=False)
    assert {path.name for path in project.glob("again/*")} == {
        *("contact_sheet.png", "predictions.csv", "predictions.html", "metrics.json", "mine.txt", "thumbnails")
    }


@pytest.fixture(scope="module")
def without_maps(project) -> Path:
    """A detector that scores whole images."""
    # All but one of the methods of conf/base are left out.
    methods = dict.fromkeys(_methods_but("nearest_source"))
    blocks = {"dataset": {"textures": FEW}, "baselines": {"methods": methods}}
    run_pipeline(project, "test", "baselines", runtime_params=blocks)
    return project / "data/06_models/textures/brick/baselines/nearest_source/detector"


def _methods_but(kept: str) -> list[str]:
    from omegaconf import OmegaConf

    from projects import PROJECT

    blocks = OmegaConf.load(PROJECT / "conf/base/parameters/baselines.yml")
    return [name for name in blocks["baselines"]["methods"] if name != kept]


@pytest.mark.long
def test_a_detector_without_maps_has_scores_and_thumbnails(project, images, without_maps, said):
    table = predict(project, images, without_maps, output=str(project / "whole"))
    assert table["score"].notna().all()
    assert table["heat_map"].isna().all()
    assert len(list(project.glob("whole/thumbnails/*.png"))) == 12
    assert "Maps: none: a detector of 'baselines' scores whole images" in "\n".join(said)
    with nothing_new(project), pytest.raises(KedroCliError, match=r"inference\.maps is asked for, but a detector of"):
        predict(project, images, without_maps, maps=True)


def _without_threshold(folder: Path) -> None:
    path = folder / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "", "threshold": None}))


def _change_weights(folder: Path) -> None:
    state = load_file(folder / "learnt.safetensors")
    name = next(iter(state))
    save_file(state | {name: np.asarray(state[name] + 1)}, folder / "learnt.safetensors")


# What else a folder can lack: tests/detectors/test_folder.py.
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("how", "message"),
    [(_without_threshold, "has no threshold; run the pipeline 'calibration'"), (_change_weights, "its hash differs")],
)
def test_a_damaged_detector_is_one_message(project, images, tmp_path, how, message):
    shutil.copytree(project / DETECTOR, tmp_path / "detector")
    how(tmp_path / "detector")
    with nothing_new(project), pytest.raises(KedroCliError, match=message) as caught:
        predict(project, images, tmp_path / "detector", output=str(project / "none"))
    assert "Traceback" not in str(caught.value)
    assert half_written(project) == []


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"images": "{empty}"}, "holds no images"),
        ({"images": None}, "images is not given"),
        ({"detector": "runs:/0123456789abcdef"}, "the run '0123456789abcdef' has no detector that could be fetched"),
        ({"detector": "runs:/"}, "is no ID of an MLflow run"),
        ({"output": "{images}"}, "among the images that are predicted"),
        ({"output": "{project}/conf"}, "is there already and holds no predictions"),
        ({"heatmaps": True}, "unknown parameter 'heatmaps'; did you mean 'heat_maps'"),
    ],
)
def test_what_cannot_be_used_is_one_message(project, images, tmp_path, block, message):
    places = {"images": images, "project": project, "empty": tmp_path}
    wanted = {"images": "{images}", "detector": str(DETECTOR), "output": "{project}/none"} | block
    filled = {key: value.format(**places) if isinstance(value, str) else value for key, value in wanted.items()}
    with nothing_new(project, tmp_path), pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", "inference", runtime_params={"inference": filled})
    assert half_written(project) == []


def test_the_latest_of_a_project_without_any_is_one_message(tmp_path, migrated_database, images):
    from projects import copy_project

    fresh = copy_project(tmp_path / "fresh", migrated_database)
    with nothing_new(fresh), pytest.raises(KedroCliError, match="there is no detector in 'data/06_models' yet"):
        predict(fresh, images, "latest")
