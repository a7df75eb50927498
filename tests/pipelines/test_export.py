"""The pipeline `export` as a user runs it, and what is done with the file afterwards."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdad.detectors import load
from kdad.project.command_line import CommandLineError
from kept_detectors import DETECTOR, nothing_new, predict, write_bricks
from projects import artifacts_of, copy_project, half_written, logged_runs, run_pipeline

PLACE = Path("data/06_models/exported/folder_brick_stfpm/onnx_float32")
_STFPM = 1  # runs before the export


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    """A project with a detector of a tiny source, and its export."""
    project = copy_project(tmp_path_factory.mktemp("export"), migrated_database)
    write_bricks(project / "pictures")
    named = {"tracking": {"register_model": "brick", "champion": True}}
    run_pipeline(project, "test", "stfpm", runtime_params=_blocks(project) | _tiny() | named)
    run_pipeline(project, "test", "export", runtime_params=_blocks(project))
    return project


def _blocks(project: Path) -> dict:
    root = str(project / "pictures")
    dataset = {"name": "folder", "root": root, "category": "brick", "validation_fraction": 0.4}
    return {"dataset": dataset, "compute": {"precision": "float32"}}


def _tiny() -> dict:
    return {"stfpm": {"source": {"name": "timm:test_resnet", "weights": "random"}, "points": "first 3"}}


def test_an_export_leaves_one_file_and_a_report_of_the_runs_own_images(project):
    assert [path.name for path in (project / PLACE / "detector").iterdir()] == ["detector.onnx"]
    report = json.loads((project / PLACE / "export.json").read_text())
    assert (report["runtime"], report["precision"], report["threshold_set_by"]) == (
        "onnxruntime",
        "float32",
        "detector",
    )
    assert report["images"] == 8 + 12  # held out, and tested
    assert "of the detector's run" in report["images_are"]
    assert report["score_difference"] < 1e-4
    assert report["decisions_changed"] == 0
    assert half_written(project) == []
    metrics = json.loads((project / "data/08_reporting/folder/brick/stfpm/metrics.json").read_text())
    assert report["image_auroc_before"] == pytest.approx(metrics["image_auroc"])
    assert report["pixel_auroc"] == pytest.approx(report["pixel_auroc_before"], abs=1e-6)


@pytest.mark.long
def test_inference_by_the_file_is_inference_by_the_detector(project, tmp_path):
    images = project / "pictures/brick/test"
    by_file = predict(project, images, PLACE / "detector", output=str(tmp_path / "file"))
    by_detector = predict(project, images, DETECTOR, output=str(tmp_path / "detector"))
    assert len(by_file) == 12
    spread = np.ptp(by_detector["score"])
    np.testing.assert_allclose(by_file["score"], by_detector["score"], atol=1e-4 * spread)
    columns = ["threshold", "decision", "label"]
    pd.testing.assert_frame_equal(by_file[columns], by_detector[columns], rtol=1e-6)


@pytest.mark.long
def test_the_file_is_logged_in_a_folder_by_which_its_run_is_a_place_of_it(project, tmp_path):
    run = logged_runs(project)[-1 - _STFPM]
    assert run.data.metrics["threshold"] == load(project / PLACE / "detector").threshold.value
    assert artifacts_of(project, run, "detector") == {"detector/detector.onnx"}
    images = project / "pictures/brick/test/good"
    by_run = predict(project, images, f"runs:/{run.info.run_id}", output=str(tmp_path / "run"))
    by_file = predict(project, images, PLACE / "detector", output=str(tmp_path / "file"))
    assert by_run["score"].tolist() == by_file["score"].tolist()
    tags = logged_runs(project)[0].data.tags
    assert (tags["detector"], tags["detector_system"]) == (str(project / PLACE / "detector"), "stfpm")


@pytest.mark.long
def test_a_model_of_the_registry_is_exported_to_a_place_that_any_system_can_name(project):
    wanted = {"detector": "models:/brick@champion", "runtime": "openvino"}
    run_pipeline(project, "test", "export", runtime_params=_blocks(project) | {"export": wanted})
    place = project / "data/06_models/exported/brick_champion/onnx_float32"
    assert load(place / "detector").threshold == load(project / DETECTOR).threshold
    names = [path.name for path in (project / "data/06_models").rglob("*")]
    assert [name for name in names if set(name) & set(':@ "?*<>|')] == []


@pytest.mark.long
def test_calibration_of_the_file_keeps_a_file(project, tmp_path):
    wanted = {"detector": str(project / PLACE / "detector"), "value": 0.5, "output": str(tmp_path / "calibrated")}
    for _ in range(2):  # in the place of its own older one, too
        run_pipeline(project, "test", "calibration", runtime_params={"calibration": wanted})
    again, before = load(tmp_path / "calibrated/detector"), load(project / PLACE / "detector")
    scores = np.sort(before.validation_scores)
    assert again.threshold.value == pytest.approx(scores[4])  # the fifth of eight: 9 * 0.5 rounded up
    assert again.facts.threshold_set_by == "runtime"
    (run, *_) = logged_runs(project)  # in which nothing holds up what comes after the file
    assert run.info.status == "FINISHED"
    assert artifacts_of(project, run, "detector") == {"detector/detector.onnx"}


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"detector": str(PLACE / "detector")}, "is an exported file already"),
        ({"detector": "nowhere"}, "is no detector"),
        ({"images": "nowhere"}, "there is no file or folder 'nowhere'"),
    ],
)
def test_what_cannot_be_exported_is_one_message_and_nothing_is_written(project, block, said):
    with nothing_new(project / "data/06_models"), pytest.raises(CommandLineError, match=said):
        run_pipeline(project, "test", "export", runtime_params=_blocks(project) | {"export": block})


@pytest.mark.long
def test_images_that_changed_since_the_run_are_not_taken_for_its_own(project, tmp_path, caplog):
    other = shutil.copytree(project / "pictures", tmp_path / "pictures")
    shutil.copy(other / "brick/train/good/000.png", other / "brick/train/good/001.png")
    shutil.move(project / "pictures", project / "moved")
    blocks = _blocks(project)
    blocks["dataset"]["root"] = str(other)
    wanted = {"runtime": "openvino", "output": str(tmp_path / "out")}
    try:
        run_pipeline(project, "test", "export", runtime_params=blocks | {"export": wanted})
    finally:
        shutil.move(project / "moved", project / "pictures")
    report = json.loads((tmp_path / "out/export.json").read_text())
    assert "drawn ones" in report["images_are"]
    assert report["score_difference"] < 1e-4
