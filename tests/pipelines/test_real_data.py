"""Real categories, shortened: trainings that find defects, exported files, and another process that says the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdad.detectors.exported.detector import open_exported
from kdad.detectors.opening import open_detector
from kept_detectors import read_predictions
from projects import copy_project, run_pipeline

pytestmark = [pytest.mark.real_data, pytest.mark.long]


def test_a_short_training_on_bottle_finds_its_defects(project, run, shared):
    dataset = {"root": str(shared / "data/mvtec_ad_256"), "category": "bottle", "image_size": 64}
    source = {"name": "vgg16", "weights": str(shared / "weights/vgg16_imagenet_conv.safetensors")}
    cloner = {"training": {"epochs": 12}}
    run("mvtec", runtime_params={"dataset": dataset, "source": source, "cloner": cloner})
    metrics = json.loads((project / "data/08_reporting/folder/bottle/mkd/metrics.json").read_text())
    assert (metrics["test_normal"], metrics["test_anomalous"]) == (20, 63)
    # Chance is 0.5 and 0; a hundred epochs at 128 pixels reach 0.998 and 0.936.
    assert metrics["image_auroc"] > 0.9
    assert metrics["pro_auc"] > 0.6
    assert metrics["localisation_left_out"] is None


def test_a_short_ensemble_on_bottle_finds_its_defects(project, run, shared):
    dataset = {"root": str(shared / "data/mvtec_ad_256"), "category": "bottle", "image_size": 64}
    teacher = {"width": 0.125, "patches_per_epoch": 3200, "training": {"epochs": 4}}
    students = {"receptive_fields": [33], "count": 2, "training": {"epochs": 6}}
    blocks = {"dataset": dataset, "teacher": teacher, "students": students}
    scoring = {"localisation": ["combined", "regression_error", "predictive_variance"]}
    run("mvtec", "uninformed_students", runtime_params=blocks | {"student_scoring": scoring})
    report = project / "data/08_reporting/folder/bottle/uninformed_students"
    metrics = json.loads((report / "metrics.json").read_text())
    assert (metrics["test_normal"], metrics["test_anomalous"]) == (20, 63)
    # Chance is 0.5; docs/lab/uninformed_students.md has what longer training reaches.
    assert metrics["localisation"]["regression_error"]["pixel_auroc"] > 0.55
    assert (report / "heatmaps.png").stat().st_size > 10_000


def _training(epochs: int) -> dict:
    return {"training": {"epochs": epochs}}


CASES = {
    "mkd": ("mkd", {"cloner": _training(3)}),
    "mkd_vgg16": ("mkd", {"cloner": _training(2)}),
    "stfpm": ("stfpm", {"stfpm": _training(2)}),
    "reverse_distillation": ("reverse_distillation", {"reverse_distillation": _training(2)}),
    "efficient_ad": (
        "efficient_ad",
        {
            "efficient_ad": {
                "teacher": {"width": 0.1, "dense": {"crops_per_epoch": 100, **_training(1)}},
                **_training(2),
            }
        },
    ),
    "committee": ("committee", {"cloner": _training(3)}),
    "uninformed_students": (
        "uninformed_students",
        {
            "teacher": {"width": 0.1, **_training(1)},
            "students": {"receptive_fields": [17, 33], "count": 2, **_training(1)},
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_on_83_images_scores_and_decisions_are_the_detectors(case, project, shared):
    pipeline, blocks = CASES[case]
    root = shared / "data/mvtec_ad_256"
    blocks |= {
        "dataset": {"root": str(root), "category": "bottle", "image_size": 64},
        "compute": {"precision": "float32", "threads": 1},
    }
    if case.endswith("vgg16"):
        blocks["source"] = {"name": "vgg16", "weights": str(shared / "weights/vgg16_imagenet_conv.safetensors")}
    run_pipeline(project, "mvtec", pipeline, runtime_params=blocks)
    detector = open_detector(project / f"data/06_models/folder/bottle/{pipeline}/detector", "cpu", "float32")
    paths = sorted(Path(root / "bottle/test").glob("*/*.png"))
    expected = [detector.predict(path) for path in paths]
    scores = np.array([one.score for one in expected])
    assert len(scores) == 83
    wanted = {"output": str(project / "exported")}
    run_pipeline(project, "mvtec", "export", runtime_params=blocks | {"export": wanted})
    for runtime in ("onnxruntime", "openvino"):
        predictor = open_exported(project / "exported/detector/detector.onnx", runtime)
        found = [predictor.predict(path) for path in paths]
        differences = np.abs(np.array([one.score for one in found]) - scores)
        assert differences.max() <= 1e-4 * np.ptp(scores), runtime
        assert [one.decision for one in found] == [one.decision for one in expected], runtime
        maps, exact = (np.stack([one.map for one in predicted]) for predicted in (found, expected))
        assert np.abs(maps - exact).max() <= 1e-3 * np.ptp(exact), runtime


def _kedro(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run ``kedro run`` in a process of its own; fails with what it says."""
    command = [sys.executable, "-m", "kedro", "run", *arguments]
    environment = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_another_process_says_the_same_of_every_test_image(tmp_path, migrated_database, shared):
    project = copy_project(tmp_path / "project", migrated_database)
    weights = tmp_path / "vgg16.safetensors"
    shutil.copy(shared / "weights/vgg16_imagenet_conv.safetensors", weights)
    settings = {
        "dataset.root": shared / "data/mvtec_ad_256",
        "dataset.image_size": 128,
        "source.name": "vgg16",
        "source.weights": weights,
        "cloner.training.epochs": 3,
        "compute.threads": 1,
    }
    _kedro(project, "--env=mvtec", "--params", ",".join(f"{name}={value}" for name, value in settings.items()))
    own = pd.read_csv(project / "data/08_reporting/folder/bottle/mkd/scores.csv").query("split == 'test'")
    own = own.assign(id=own["id"].str.removeprefix("test/")).set_index("id")

    # The detector alone has to do: neither the file of the weights nor what the project has stored is there.
    moved = tmp_path / "elsewhere/my detector"
    shutil.copytree(project / "data/06_models/folder/bottle/mkd/detector", moved)
    weights.unlink()
    for place in ("04_feature", "06_models", "07_model_output"):
        shutil.rmtree(project / "data" / place)
    wanted = f"inference.images={shared / 'data/mvtec_ad_256/bottle/test'},inference.detector={moved}"
    done = _kedro(project, "--pipeline=inference", "--params", f"{wanted},inference.heat_maps=false,compute.threads=1")

    predicted = read_predictions(project / "data/08_reporting/inference/test")
    assert len(predicted) == 83
    assert sorted(predicted.index) == sorted(own.index)
    own = own.loc[predicted.index]
    np.testing.assert_allclose(predicted["score"], own["score"], rtol=1e-5)
    assert predicted["decision"].tolist() == own["decision"].tolist()
    assert predicted["label"].tolist() == own["label"].tolist()
    said = " ".join(done.stdout.split())
    assert "20 normal (in 'good'), 63 anomalous (in folders beside it" in said
    assert "83 of 256 x 256 (height x width); 83 are resized to 128 x 128" in said
