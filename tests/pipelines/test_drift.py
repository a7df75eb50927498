"""An inference says whether scores are still those that the threshold was set on."""

import json
import logging
from pathlib import Path

import pytest
from scipy import stats

from kept_detectors import DETECTOR, predict, read_predictions, train_on_bricks, write_crop
from projects import run_pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("drift"), migrated_database)


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
