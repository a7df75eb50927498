"""The pipeline `soft_target` over the whole DAG on few digits, and what stops it early."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import kdad.detectors.soft_target.distillation
from kdad.detectors.opening import open_detector
from kdad.images import published
from kdad.metrics.ranking import image_auroc
from projects import copy_project, half_written, kept_by, logged_runs, run_pipeline

DIGITS = {"dataset": {"name": "digits", "category": None, "normal_class": 0, "image_size": 32}}
ONE_SEED = DIGITS | {"soft_target": {"seeds": [1]}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database, few_digits) -> Path:
    project = copy_project(tmp_path_factory.mktemp("soft"), migrated_database)
    run_pipeline(project, "test", "soft_target", runtime_params=ONE_SEED)
    return project


def table(project: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(project / f"data/08_reporting/digits/soft_target/{name}.csv")


def test_the_sweep_has_every_temperature_and_alpha(finished):
    found = table(finished, "sweep")
    assert len(found) == len(found.groupby(["temperature", "alpha", "seed"])) == 2 * 2
    assert found["validation_accuracy"].between(0, 1).all()


def test_label_counts_compare_three_lessons(finished):
    found = table(finished, "labels")
    assert len(found) == 2 * 3  # counts 2 and all, lessons
    assert set(found["lesson"]) == {"hard", "soft", "transfer"}
    assert (found["ece"] <= 1).all()


def test_a_hard_student_never_answers_with_the_class_that_it_has_not_seen(finished):
    found = table(finished, "omission").query("student == 'omitted_hard' and offset == 0")
    assert (found["accuracy_of_class"] == 0).all()


def test_each_class_is_detected_against_the_others(finished):
    found = table(finished, "anomaly")
    assert list(zip(found["seed"], found["normal_class"], strict=True)) == [(1, number) for number in range(10)]
    assert found["image_auroc"].between(0, 1).all()


def test_figures_and_summary(finished):
    folder = finished / "data/08_reporting/digits/soft_target"
    assert {path.name for path in (folder / "figures").iterdir()} == {"softened.png", "sweep.png", "labels.png"}
    summary = json.loads((folder / "summary.json").read_text())
    labels = table(finished, "labels").query("labels == 2").pivot(index="seed", columns="lesson", values="accuracy")
    assert summary["labels"]["2"]["seeds_where_soft_beats_hard"] == int((labels["soft"] > labels["hard"]).sum())
    assert list(summary["labels"]) == ["all", "2"]


def test_mlflow_has_the_summary_and_the_teachers_history(finished):
    (run,) = logged_runs(finished)
    assert "teacher.accuracy" in run.data.metrics
    assert "teacher.training.total" in run.data.metrics
    assert kept_by(finished, run) >= {"detector.json", "learnt.safetensors"}


def test_the_detector_on_the_runs_own_class_disagrees_as_the_table_says(finished, few_digits):
    detector = open_detector(finished / "data/06_models/digits/class_0/soft_target/detector")
    test = published._load_parts()[1]
    images = torch.from_numpy(test.pixels)[:, None].expand(-1, 3, -1, -1) / 255
    scores = [found.score for found in detector.predict_batch(images)]
    found = table(finished, "anomaly").query("normal_class == 0")["image_auroc"].item()
    assert image_auroc((test.classes != 0).astype(np.int64), np.array(scores)) == pytest.approx(found)
    assert detector.record["metrics"]["image_auroc"] == pytest.approx(found)
    assert not half_written(finished)


@pytest.mark.long
def test_a_second_run_trains_nothing_and_agrees(finished, monkeypatch):
    before = table(finished, "labels")
    monkeypatch.setattr(kdad.detectors.soft_target.distillation, "train_classifier", None)
    run_pipeline(finished, "test", "soft_target", runtime_params=ONE_SEED)
    pd.testing.assert_frame_equal(table(finished, "labels"), before)


def test_a_set_without_classes_stops_before_training(project, run):
    with pytest.raises(Exception, match="soft_target needs a labelled set"):
        run(pipeline="soft_target")
    assert not (project / "data/06_models").exists()
