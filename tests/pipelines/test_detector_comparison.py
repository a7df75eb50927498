"""Two kept detectors compared on one folder by a run: what it leaves, and what it refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest

import kdad.detectors
from kdad.errors import InputError
from kdad.images.layouts.layout import look_for_images
from kdad.inference.parameters import ComparisonParameters
from kdad.parameters.blocks import ComputeParameters
from kdad.pipelines.detector_comparison import compare_detectors
from kdad.project.command_line import CommandLineError
from kept_detectors import DETECTOR, nothing_new, train_on_bricks
from projects import artifacts_of, half_written, logged_runs, run_pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database) -> Path:
    return train_on_bricks(tmp_path_factory.mktemp("comparison"), migrated_database)


@pytest.fixture(scope="module")
def stricter(project) -> Path:
    """The same detector with a threshold that is the median of its test scores."""
    detector = kdad.detectors.load(project / DETECTOR)
    files = detector.predict_folder(project / "pictures/brick/test")
    scores = pd.Series([one.prediction.score for one in files])
    detector.calibrated(
        detector.threshold.model_copy(update={"value": float(scores.median())}), detector.validation_scores
    )
    return detector.save(project / "stricter")


def test_a_run_leaves_table_page_and_numbers(project, stricter):
    images = project / "pictures/brick"
    (images / "test/good/cut.png").write_bytes(b"\x89PNG")
    block = {"detectors": [str(DETECTOR), "stricter"], "images": str(images)}
    with pytest.raises(CommandLineError, match=r"1 of 33 files could not be read; all others are compared:\n.*cut.png"):
        run_pipeline(project, "test", "comparison", runtime_params={"comparison": block})
    (folder,) = (project / "data/08_reporting/compared").glob("brick-*")
    table = pd.read_csv(folder / "comparison.csv", index_col="path")
    detectors = {name: kdad.detectors.load(project / place) for name, place in (("a", DETECTOR), ("b", "stricter"))}
    path = "test/torn/003.png"
    for name, detector in detectors.items():
        found = detector.predict(images / path)
        assert table.loc[path, f"score_{name}"] == pytest.approx(found.score, rel=1e-5)
        assert table.loc[path, f"decision_{name}"] == found.decision
    metrics = json.loads((folder / "comparison.json").read_text())
    assert (metrics["images"], metrics["unreadable"], metrics["labelled"]) == (12, 1, 12)
    assert (metrics["seen_by_a"], metrics["seen_by_b"]) == (20, 20)  # all that it was trained on
    read = table[table["seen"].isna()].dropna(subset="score_a")
    assert metrics["flips"] == (read["decision_a"] != read["decision_b"]).sum()
    assert metrics["b"]["anomalous"] == 6
    assert metrics["b"]["digest"] == detectors["b"].digest != metrics["a"]["digest"]
    page = (folder / "comparison.html").read_text()
    assert "20 images that A was trained or calibrated on are shown, and not counted" in page
    assert half_written(project) == []
    run = logged_runs(project)[0]
    assert run.info.run_name == f"comparison on {images} of {DETECTOR} and stricter"
    assert run.data.metrics["flips"] == metrics["flips"]
    assert artifacts_of(project, run) >= {"comparison.csv", "comparison.html", "comparison.json"}


def test_what_cannot_be_compared_is_refused(project, stricter):
    images, compute = look_for_images(project / "pictures/brick/test"), ComputeParameters()
    detectors = [kdad.detectors.load(project / DETECTOR) for _ in range(2)]
    with pytest.raises(InputError, match="names the same detector twice"):
        compare_detectors(detectors, images, ComparisonParameters(), compute)
    detectors[1].threshold = None
    with pytest.raises(InputError, match=r"B of comparison.detectors: the detector has no threshold"):
        compare_detectors(detectors, images, ComparisonParameters(), compute)


def test_detectors_and_images_must_be_given(project):
    for block, message in (
        ({"images": "pictures"}, "comparison.detectors is not given; name the detectors"),
        ({"detectors": ["stricter", "stricter"]}, "comparison.images is not given"),
        ({"detectors": "stricter", "images": "pictures"}, "comparison.detectors: List should have at least 2 items"),
    ):
        with nothing_new(project / "data"), pytest.raises(Exception, match=message):
            run_pipeline(project, "test", "comparison", runtime_params={"comparison": block})
