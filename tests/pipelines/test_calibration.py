"""A kept detector gets another threshold without training; the old one stays as it is."""

import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from pydantic import ValidationError

from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.images.layouts.layout import look_for_images
from kdad.inference.description import describe_detector
from kdad.inference.parameters import CalibrationParameters, InferenceParameters
from kdad.parameters.blocks import ComputeParameters
from kdad.parameters.dataset import TileParameters
from kdad.pipelines import inference
from kdad.pipelines.calibration import calibrate as calibrate_detector
from kdad.scoring.threshold import Calibration, quantile_threshold
from kept_detectors import DETECTOR, REPORT, nothing_new, predict, train_on_bricks, write_crop
from projects import half_written, logged_runs, run_pipeline
from small_detector import keep_detector


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("calibration"), migrated_database)


@pytest.fixture(scope="module")
def bricks(project) -> Path:
    return project / "pictures/brick"


def _calibrate(project: Path, folder: Path, **block) -> tuple[Path, dict]:
    wanted = {"detector": str(DETECTOR), "output": str(folder), **block}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": wanted})
    return folder, json.loads((folder / "threshold.json").read_text())


@pytest.fixture
def calibrate(project, tmp_path):
    """Run the pipeline `calibration` on the detector; return its results' folder and what it says of the threshold."""
    return partial(_calibrate, project, tmp_path / "new")


@pytest.fixture(scope="module")
def by_quantile(project, bricks, tmp_path_factory) -> tuple[Path, dict, mlflow.entities.Run]:
    """The folder of a calibration on 20 normal images, what it says of the threshold, and its run."""
    new, images = tmp_path_factory.mktemp("by quantile") / "new", str(bricks / "train/good")
    with nothing_new(project):
        made = _calibrate(project, new, images=images, rule="quantile", value=0.9)
    return *made, logged_runs(project)[0]


def _scores(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "calibration_scores.csv")


def test_a_quantile_of_normal_images(project, by_quantile):
    folder, facts, _ = by_quantile
    scores = np.sort(_scores(folder)["score"])
    assert len(scores) == 20
    assert facts["threshold"]["value"] == scores[18]  # the 19th of 20: ceil(21 * 0.9)
    assert facts["threshold"]["expected_false_positive_rate"] == pytest.approx(2 / 21)
    assert "9.52% of new normal images are expected above it" in facts["statement"]
    assert (
        facts["before"]["value"] == json.loads((project / DETECTOR / "detector.json").read_text())["threshold"]["value"]
    )


@pytest.mark.long
def test_inference_with_the_new_folder_decides_and_ranks_by_the_new_images(project, bricks, calibrate):
    folder, facts = calibrate(images=str(bricks / "train"), rule="quantile", value=0.5)
    normal = _scores(folder)["score"].to_numpy()
    before, after = predict(project, bricks / "test"), predict(project, bricks / "test", folder / "detector")
    np.testing.assert_allclose(after["score"], before["score"], rtol=1e-6)
    assert after["threshold"].tolist() == pytest.approx([facts["threshold"]["value"]] * 12)
    assert after["decision"].tolist() == (after["score"] > facts["threshold"]["value"]).astype(int).tolist()
    assert after["decision"].sum() > before["decision"].sum()
    assert after["percentile"].tolist() == [(normal < score).mean() for score in after["score"]]


def test_a_wanted_false_positive_rate_is_promised(bricks, calibrate):
    folder, facts = calibrate(images=str(bricks), rule="false_positive_rate", value=0.1)
    table = _scores(folder)
    assert table["label"].value_counts().to_dict() == {0: 26, 1: 6}  # those 6 are left out
    normal = np.sort(table.loc[table["label"] == 0, "score"])
    assert facts["threshold"]["value"] == normal[24]  # the 25th of 26: ceil(27 * 0.9)
    assert facts["threshold"]["expected_false_positive_rate"] == pytest.approx(2 / 27)
    assert (facts["threshold"]["normal_images"], facts["threshold"]["anomalous_images"]) == (26, 0)


def _best(table: pd.DataFrame, rule: str, wanted: float) -> float:
    """Return the best value of the rule's aim over every cut between scores."""
    label, score = table["label"].to_numpy(), table["score"].to_numpy()
    aims = []
    for cut in [-np.inf, *score]:
        found, false = ((score > cut) & (label == 1)).sum(), ((score > cut) & (label == 0)).sum()
        aims.append(_aim(rule, wanted, found / 6, false / 6, found, false))
    return max(aims)


def _aim(rule: str, wanted: float, true_rate: float, false_rate: float, found: int, false: int) -> float:
    if rule == "f1":
        return 2 * found / (found + false + 6)
    if rule == "youden":
        return true_rate - false_rate
    return -false_rate if true_rate >= wanted else -np.inf


@pytest.mark.sample(1)
@pytest.mark.parametrize(("rule", "wanted"), [("f1", None), ("youden", None), ("true_positive_rate", 0.8)])
def test_rules_with_labels_are_the_best_of_all_cuts(bricks, calibrate, rule, wanted):
    folder, facts = calibrate(images=str(bricks / "test"), rule=rule, value=wanted)
    table, value = _scores(folder), facts["threshold"]["value"]
    found, false = (int(((table["score"] > value) & (table["label"] == label)).sum()) for label in (1, 0))
    assert _aim(rule, wanted, found / 6, false / 6, found, false) == _best(table, rule, wanted)
    assert (facts["threshold"]["rule"], facts["threshold"]["wanted"]) == (rule, wanted)
    assert (facts["threshold"]["normal_images"], facts["threshold"]["anomalous_images"]) == (6, 6)


def test_without_images_the_scores_that_the_detector_remembers_are_taken(project, calibrate):
    folder, facts = calibrate(rule="quantile", value=0.25)
    validation = pd.read_csv(project / REPORT / "scores.csv").query("split == 'validation'")["score"]
    assert facts["threshold"]["value"] == pytest.approx(
        np.sort(validation)[2], rel=1e-12
    )  # the third of 8: ceil(9 / 4)
    np.testing.assert_allclose(np.sort(_scores(folder)["score"]), np.sort(validation), rtol=1e-12)


def test_the_new_detector_remembers_where_it_comes_from(project, bricks, by_quantile):
    folder, _, calibration = by_quantile
    assert calibration.info.run_name.startswith("calibration")
    (training,) = [run for run in logged_runs(project) if run.info.run_name.startswith("stfpm")]
    made = json.loads((folder / "detector/detector.json").read_text())["made_by"]
    assert made["calibrated_from"] == str(project / DETECTOR)
    assert made["calibrated_from_run"] == training.info.run_id
    assert made["mlflow_run"] == calibration.info.run_id
    assert made["calibrated_on"] == str(bricks / "train/good")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in bricks.glob("train/good/*.png")}
    assert set(made["seen"].split()) == digests
    assert "folder" not in made
    assert calibration.data.tags["detector_run"] == training.info.run_id
    assert {"threshold", "before.value"} <= set(calibration.data.metrics)


@pytest.mark.long
def test_a_detector_that_has_no_threshold_yet_gets_one_and_colours(project, bricks, calibrate):
    fitted = project / DETECTOR.with_name("fitted")
    folder, facts = calibrate(detector=str(fitted), images=str(bricks / "train/good"))
    assert facts["before"] is None
    kept = json.loads((folder / "detector/detector.json").read_text())
    low, high = kept["colour_limits"]
    assert low < high
    assert predict(project, bricks / "test", folder / "detector")["score"].notna().all()


@pytest.mark.long
def test_results_lie_in_a_folder_named_after_images_and_rule(project, bricks):
    block = {"detector": str(DETECTOR), "images": str(bricks / "test"), "rule": "true_positive_rate", "value": 0.5}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    folder = next(project.glob("data/06_models/calibrated/folder_brick_stfpm/test-*/true_positive_rate_0.5"))
    assert {path.name for path in folder.iterdir()} == {"calibration_scores.csv", "detector", "threshold.json"}
    with nothing_new(project), pytest.raises(KedroCliError, match="would take the place of the one that it is made"):
        run_pipeline(
            project,
            "test",
            "calibration",
            runtime_params={"calibration": block | {"detector": str(folder / "detector"), "output": str(folder)}},
        )
    shutil.rmtree(folder)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"rule": "false_positive_rate", "value": 0.001},
            "at best, not 0.10%; give at least 999, or want a higher rate",
        ),
        ({"rule": "false_positive_rate", "value": 0.95}, "is above 0.5; give calibration.value, such as 0.01"),
        ({"rule": "quantile", "value": 1.5}, "quantile is 1.5; it must lie between 0 and 1"),
        ({"rule": "quantile", "value": None}, "needs a value"),
        ({"rule": "f1", "images": None}, "needs labelled images; give calibration.images"),
        ({"rule": "f1", "images": "{bricks}/train"}, "needs normal and anomalous images; there are 20 and 0"),
        ({"rule": "best"}, r"calibration\.rule"),
        ({"images": "{bricks}/test/torn"}, "lies beside a folder 'good', so that its images are anomalous"),
        ({"images": "{mixed}"}, "1 images lie neither in a folder 'good' nor beside one, the first is 'stray.png'"),
        ({"images": "{cut}"}, r"1 calibration images cannot be used:\n.*cut\.png: cannot be read as an image"),
        ({"images": "{bricks}/nowhere"}, "there is no file or folder"),
        ({"output": "{project}/data/06_models/folder/brick/stfpm"}, "would take the place of the one that it is made"),
        ({"output": "{mixed}"}, "is there already and is no detector; give calibration.output another folder"),
        (
            {"detector": "{project}/data/06_models/folder/brick/stfpm/fitted", "images": None},
            "no normal validation scores",
        ),
        ({"detector": "{bricks}"}, "is no detector"),
    ],
)
def test_what_cannot_be_used_is_one_message(project, bricks, tmp_path, block, message):
    for name in ("mixed/good/a.png", "mixed/stray.png", "mixed/detector/notes.png", "cut/good/a.png"):
        write_crop(tmp_path / name, 0)
    (tmp_path / "cut/good/cut.png").write_bytes((tmp_path / "cut/good/a.png").read_bytes()[:300])
    (tmp_path / "mixed/detector/notes.png").rename(tmp_path / "mixed/detector/.notes")
    places = {"bricks": bricks, "project": project, "mixed": tmp_path / "mixed", "cut": tmp_path / "cut"}
    wanted = {"images": "{bricks}/train/good", "detector": str(DETECTOR), "output": str(tmp_path / "new")} | block
    filled = {key: value.format(**places) if isinstance(value, str) else value for key, value in wanted.items()}
    with nothing_new(project, tmp_path), pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", "calibration", runtime_params={"calibration": filled})
    assert half_written(project) == half_written(tmp_path) == []


def test_a_threshold_of_ones_own_promises_nothing_and_says_so(tmp_path, caplog):
    made = open_detector(keep_detector(tmp_path), "cpu")
    block = CalibrationParameters(rule="value", value=0.5)
    with caplog.at_level("INFO", logger="kdad"):
        _, new, facts = calibrate_detector(made, None, block, ComputeParameters())
    assert (new.threshold.value, new.threshold.rule) == (0.5, "value")
    assert facts["statement"] == "it was set by hand, and promises nothing"
    assert "by value on the scores of the validation images that the detector remembers (15 of 30 normal, 0 of 0 " in (
        caplog.text
    )
    kept = open_detector(new.save(tmp_path / "new"), "cpu")
    assert kept.threshold == new.threshold
    said = dict(describe_detector(kept))
    assert said["Threshold"] == "0.5, by value: it was set by hand, and promises nothing"
    # By the scores behind it any other rule can be had again.
    _, again, _ = calibrate_detector(kept, None, CalibrationParameters(value=0.9), ComputeParameters())
    assert again.threshold == quantile_threshold(np.linspace(0, 1, 30), 0.9)


def test_each_category_gets_its_threshold_by_the_same_rule_or_the_run_says_that_it_stays(tmp_path, caplog):
    made = open_detector(keep_detector(tmp_path))
    scores = {"nut": np.arange(10.0), "pill": np.arange(20.0) + 100}
    made.by_category = {name: Calibration.of(quantile_threshold(own, 0.9), own) for name, own in scores.items()}
    kept = open_detector(made.save(tmp_path / "united"))
    _, new, _ = calibrate_detector(kept, None, CalibrationParameters(value=0.5), ComputeParameters())
    values = {name: new.for_category(name).threshold.value for name in scores}
    assert values == {"nut": 5.0, "pill": 110.0}  # the 6th of 10, the 11th of 20: ceil((n + 1) / 2)
    assert "keep their thresholds" not in caplog.text
    calibrate_detector(new, None, CalibrationParameters(rule="value", value=0.3), ComputeParameters())
    assert {name: new.for_category(name).threshold.value for name in scores} == values
    assert "The categories nut, pill keep their thresholds" in caplog.text


def test_a_threshold_of_ones_own_is_given():
    for value, problem in ((0.95, "0.95 is the usual quantile"), (None, "or your own threshold")):
        with pytest.raises(ValidationError, match=problem):
            CalibrationParameters(rule="value", value=value)


def test_images_that_belong_together_are_one_draw(tmp_path, caplog):
    made = open_detector(keep_detector(tmp_path), "cpu")
    for name in ("a_1", "a_2", "b_1", "b_2", "c_1"):
        write_crop(tmp_path / f"new/{name}.png", sum(map(ord, name)))
    images = look_for_images(tmp_path / "new")
    by_name = CalibrationParameters(images="new", groups="^(.)_", value=0.5)
    table, new, _ = calibrate_detector(made, images, by_name, ComputeParameters())
    scores = table["score"].to_numpy()
    highest = sorted([scores[:2].max(), scores[2:4].max(), scores[4]])
    assert (new.threshold.group_scores, new.threshold.value) == (highest, highest[1])
    assert "(3 groups of 5 normal images)" in caplog.text
    assert new.threshold.group_value is None
    # A detector that decides on groups has theirs set too, and says where it no longer does.
    made.threshold = made.threshold.model_copy(update={"group_score": "mean", "group_value": 1.0})
    _, new, _ = calibrate_detector(made, images, by_name, ComputeParameters())
    assert new.threshold.group_value == sorted([scores[:2].mean(), scores[2:4].mean(), scores[4]])[1]
    assert "decides on images alone" not in caplog.text
    # So it is with the threshold for tiles, by which files are then decided on in groups.
    by_tiles = by_name.model_copy(update={"tiles": TileParameters(size=24)})
    table, new, _ = calibrate_detector(made, images, by_tiles, ComputeParameters())
    scores = table["score"].to_numpy()
    by_tiles = InferenceParameters(tiles=TileParameters(size=24), groups="^(.)_")
    predictor, _ = inference._by_tiles(new, by_tiles)
    assert predictor.threshold.group_value == sorted([scores[:2].mean(), scores[2:4].mean(), scores[4]])[1]
    groups = inference._groups_of(new, predictor, by_tiles.groups)
    groups.take(row := {"path": "d_1.png", "score": 9.0, "threshold": predictor.threshold.value})
    assert groups.decide(row) == {"group": "d", "group_score": 9.0, "group_decision": 1}
    predictor.threshold = predictor.threshold.model_copy(update={"group_value": None})
    with pytest.raises(InputError, match=r"set the tiles' threshold anew with calibration\.groups, or leave"):
        inference._groups_of(new, predictor, by_tiles.groups)
    calibrate_detector(made, images, CalibrationParameters(images="new", value=0.5), ComputeParameters())
    assert "The detector decided on groups, and the new threshold decides on images alone" in caplog.text


def test_groups_go_with_images_and_rules_of_normal_ones():
    for block, problem in (
        ({"groups": "folder"}, "groups is of calibration.images"),
        ({"groups": "folder", "images": "x", "rule": "f1"}, "groups does not go with the rule 'f1'"),
        ({"groups": "film", "images": "x"}, "groups 'film' is neither folder nor a pattern"),
        ({"groups": "(a)(b)", "images": "x"}, "has 2 parts in parentheses"),
    ):
        with pytest.raises(ValidationError, match=re.escape(problem)):
            CalibrationParameters(**block)


def test_a_threshold_on_maps_is_set_on_images_or_on_what_is_remembered(tmp_path):
    made = open_detector(keep_detector(tmp_path), "cpu")
    for number in range(5):
        write_crop(tmp_path / f"new/{number}.png", number)
    images = look_for_images(tmp_path / "new")
    with pytest.raises(InputError, match="the detector remembers none of its validation images' maps"):
        calibrate_detector(made, None, CalibrationParameters(pixel_rule="quantile"), ComputeParameters())
    block = CalibrationParameters(images="new", pixel_rule="quantile", pixel_value=0.5, min_area=40)
    table, new, _ = calibrate_detector(made, images, block, ComputeParameters())
    levels = np.sort(table["level"])
    known = new.pixel_threshold
    assert (known.validation_scores, known.threshold.value, known.min_area) == (levels.tolist(), levels[2], 40)
    with_regions = [
        bool(new.regions(one.prediction, one.placement)) for one in new.predict_files(images.paths, with_images=False)
    ]
    assert with_regions == (table["level"] > levels[2]).tolist()
    again = CalibrationParameters(pixel_rule="quantile", pixel_value=0.8)
    _, new, _ = calibrate_detector(new, None, again, ComputeParameters())
    assert (new.pixel_threshold.threshold.value, new.pixel_threshold.min_area) == (levels[4], 40)
    own = CalibrationParameters(pixel_rule="value", pixel_value=0.25)
    _, new, _ = calibrate_detector(new, None, own, ComputeParameters())
    assert new.pixel_threshold.threshold.value == 0.25
    assert new.pixel_threshold.statement().endswith("it was set by hand, and promises nothing")
    with pytest.raises(InputError, match="the detector remembers those of regions of 40 pixels or more"):
        calibrate_detector(new, None, CalibrationParameters(pixel_rule="quantile", min_area=2), ComputeParameters())
    for wrong, problem in (
        ({"min_area": 4}, "min_area goes with pixel_rule"),
        ({"pixel_rule": "value"}, "0.95 is the usual quantile"),
        ({"pixel_rule": "false_positive_rate"}, "a false positive rate of 0.95 is above 0.5"),
        ({"pixel_rule": "quantile", "images": "x", "tiles": {}}, "pixel_rule is of whole images"),
    ):
        with pytest.raises(ValidationError, match=problem):
            CalibrationParameters(**wrong)
