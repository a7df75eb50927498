"""Uninformed Students and their ablation over the whole DAG of `conf/test`, and what stops them early."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.cli.utils import KedroCliError

import kdad.detectors.uninformed_students.detector
import kdad.detectors.uninformed_students.teacher
from kdad.detectors.opening import open_detector
from kdad.detectors.uninformed_students.detector import UninformedStudentsDetector
from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters
from kdad.training.loop import CheckpointFile
from projects import FEW, FIGURES, SMALL, copy_project, half_written, kept_by, logged_runs, run_pipeline

PLACE = "textures/brick"
METHODS = ["combined", "regression_error", "predictive_variance", "combined_p17", "combined_p33"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("students"), migrated_database)
    run_pipeline(project, "test", "uninformed_students", runtime_params=SMALL)
    return project


@pytest.fixture(scope="module")
def report(finished) -> Path:
    return finished / "data/08_reporting" / PLACE / "uninformed_students"


@pytest.fixture(scope="module")
def metrics(report) -> dict:
    return json.loads((report / "metrics.json").read_text())


@pytest.fixture(scope="module")
def detector(finished) -> UninformedStudentsDetector:
    return open_detector(finished / "data/06_models" / PLACE / "uninformed_students/detector")


def grid_maps(finished, detector, *parts: str) -> dict[str, np.ndarray]:
    """Return e and v of each receptive field on the grid, of the images of these parts, one part after the other."""
    images = open_image_set(DatasetParameters(name="textures", category="brick", image_size=64, textures=FEW))
    split = pd.read_csv(finished / "data/03_primary" / PLACE / "split.csv")["split"].to_numpy()
    rows = np.concatenate([np.flatnonzero(split == part) for part in parts])
    batch = torch.from_numpy(np.stack([images.image(int(row)) for row in rows]))
    with torch.no_grad():
        return {name: found.numpy() for name, found in detector._grid_maps(batch, None).items()}


@pytest.fixture(scope="module")
def parts(finished, detector) -> dict[str, np.ndarray]:
    """e and v of the validation and the test images."""
    return grid_maps(finished, detector, "validation", "test")


def test_metrics_of_each_map_and_scale(metrics, detector):
    assert list(metrics["localisation"]) == METHODS
    assert detector.settings.students.receptive_fields == [17, 33]
    assert metrics["source"] == "teacher of efficientnet_lite0"
    assert 0 <= metrics["pro_auc"] <= 1


def test_the_same_figures_and_tables_as_mkd(finished, report):
    assert {path.name for path in report.iterdir()} == {
        *("metrics.json", "scores.csv", "heatmaps.png", *FIGURES),
        *("report.html", "teacher_loss.png", "teacher_loss.svg"),
    }
    assert not half_written(finished)


def test_constants_come_from_images_that_train(finished, detector):
    training = grid_maps(finished, detector, "train")
    assert set(training) == {"e_p17", "v_p17", "e_p33", "v_p33"}
    for name, maps in training.items():
        assert detector.constants[name].mean == pytest.approx(maps.mean(), rel=1e-5)
        assert detector.constants[name].sd == pytest.approx(maps.std(), rel=1e-5)


def test_the_combined_map_is_the_mean_over_scales_of_normalised_error_and_variance(finished, detector, parts):
    expected = sum((parts[name] - found.mean) / found.sd for name, found in detector.constants.items()) / 2
    found = np.load(finished / "data/07_model_output" / PLACE / "uninformed_students/raw_maps/combined.npy")
    np.testing.assert_allclose(found[:, ::4, ::4], expected, rtol=1e-4, atol=1e-4)


def test_threshold_comes_from_held_out_images(report, metrics):
    scores = pd.read_csv(report / "scores.csv")
    validation = scores.loc[scores["split"] == "validation", "score"].to_numpy()
    assert np.isclose(validation, metrics["threshold"]["value"]).any()
    assert ((scores["score"] > scores["threshold"]) == scores["decision"]).all()


def test_teacher_and_student_losses_are_logged(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (logged,) = logged_runs(finished)
    assert logged.info.status == "FINISHED"
    for name in ("teacher.validation.p17.knowledge", "students.validation.p33.total"):
        assert [point.step for point in client.get_metric_history(logged.info.run_id, name)] == [0, 1]
    assert "pro_auc.combined_p17" in logged.data.metrics


def test_the_detector_has_its_teachers_and_lies_in_mlflow_too(finished):
    kept = finished / "data/06_models" / PLACE / "uninformed_students/detector"
    names = {"detector.json", "learnt.safetensors", "teacher_p17.safetensors", "teacher_p33.safetensors"}
    assert {path.name for path in kept.iterdir()} == names
    (logged,) = logged_runs(finished)
    assert kept_by(finished, logged) == set(names)


@pytest.fixture
def no_teacher_is_trained(monkeypatch) -> None:
    def fail(*_arguments) -> None:
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr(kdad.detectors.uninformed_students.teacher, "train_teacher", fail)


@pytest.mark.long
def test_another_category_takes_the_same_teachers(finished, metrics, no_teacher_is_trained):
    grass = SMALL | {"dataset": {"category": "grass", "textures": FEW}}
    grass |= {"student_scoring": {"localisation": ["combined"]}}
    run_pipeline(finished, "test", "uninformed_students", runtime_params=grass)
    run_pipeline(finished, "test", "uninformed_students", runtime_params=SMALL)
    path = finished / "data/08_reporting" / PLACE / "uninformed_students/metrics.json"
    assert json.loads(path.read_text())["image_auroc"] == metrics["image_auroc"]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"students": {"count": 0}}, "students.count"),
        ({"students": {"receptive_fields": [16]}}, "receptive field 16 is unknown; choose from 17, 33, 65"),
        ({"teacher": {"knowledge_weight": 0, "compactness_weight": 0}}, "all 0: nothing would be learnt"),
        (
            {"students": {"receptive_fields": [17, 65]}, "dataset": {"image_size": 32}},
            "receptive field 65, which needs 33",
        ),
        ({"teacher": {"pool": "nowhere"}}, "teacher.pool 'nowhere' is no folder"),
        ({"teacher": {"pool": "conf"}}, "holds 0 images"),
        (
            {"students_ablation": {"base": {"students": {"receptive_fields": [65]}}}, "dataset": {"image_size": 32}},
            "which needs 33",
        ),
    ],
)
def test_bad_input_is_one_message_before_anything_trains(project, no_teacher_is_trained, change, message):
    pipeline = "students_ablation" if "students_ablation" in change else "uninformed_students"
    with pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", pipeline, runtime_params=change)


@pytest.mark.long
def test_a_missing_or_foreign_teacher_is_an_error(finished):
    path = finished / "data/06_models" / PLACE / "uninformed_students/frozen.json"
    kept = path.read_text()
    found = json.loads(kept)
    try:
        path.write_text(json.dumps(found | {"p17": found["p33"]}))
        with pytest.raises(KedroCliError, match="its receptive_field is 33, not 17"):
            run_pipeline(finished, "test", "students", runtime_params=SMALL)
        path.write_text(json.dumps(found | {"p17": found["p17"] | {"weights": "nothing.safetensors"}}))
        with pytest.raises(
            KedroCliError, match=r"there is no teacher 'nothing.safetensors'; run the pipeline 'teacher'"
        ):
            run_pipeline(finished, "test", "students", runtime_params=SMALL)
        path.write_text(json.dumps({"p17": found["p17"]}))
        with pytest.raises(KedroCliError, match="no teacher of receptive field 33; run the pipeline 'teacher'"):
            run_pipeline(finished, "test", "students", runtime_params=SMALL)
        path.write_text(kept)
        with pytest.raises(KedroCliError, match="its depth is 16, not 8"):
            run_pipeline(finished, "test", "students", runtime_params=SMALL | {"teacher": {"depth": 8}})
    finally:
        path.write_text(kept)


@pytest.mark.long
def test_teachers_are_trained_on_the_patches_on_disk(finished, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "copy"))
    frozen = project / "data/06_models" / PLACE / "uninformed_students/frozen.json"
    before = json.loads(frozen.read_text())
    table = project / "data/05_model_input/textures/brick/teacher_patches.parquet"
    patches = pd.read_parquet(table)
    changed = patches["receptive_field"] == 17
    patches.loc[changed, "grey"] = ~patches.loc[changed, "grey"]
    patches.to_parquet(table)
    run_pipeline(project, "test", "teacher", runtime_params=SMALL, node_names=["train_teachers"])
    after = json.loads(frozen.read_text())
    assert after["p17"]["fingerprint"] != before["p17"]["fingerprint"]
    assert Path(after["p17"]["weights"]).parent != Path(before["p17"]["weights"]).parent
    assert after["p33"]["fingerprint"] == before["p33"]["fingerprint"]
    patches[~changed].to_parquet(table)
    with pytest.raises(KedroCliError, match="holds 0 patches of receptive field 17"):
        run_pipeline(project, "test", "teacher", runtime_params=SMALL, node_names=["train_teachers"])


@pytest.mark.long
def test_teachers_killed_while_they_learn_go_on_to_the_same_weights(
    finished, tmp_path, migrated_database, monkeypatch, caplog
):
    project = copy_project(tmp_path / "killed", migrated_database)
    save = CheckpointFile.save

    def killed(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(project, "test", "teacher", runtime_params=SMALL)
    run_pipeline(project, "test", "teacher", runtime_params=SMALL)
    assert "Resuming teacher p17 after epoch 1" in caplog.text
    known = {}
    for name, place in (("whole", finished), ("killed", project)):
        found = json.loads((place / "data/06_models" / PLACE / "uninformed_students/frozen.json").read_text())
        known[name] = {field: reference["fingerprint"] for field, reference in found.items()}
    assert known["killed"] == known["whole"]
    assert not half_written(project)


@pytest.mark.long
def test_the_ablation_trains_equal_configurations_once(project, monkeypatch):
    trained = {"teachers": [], "ensembles": []}
    teachers = kdad.detectors.uninformed_students.teacher
    ensembles = kdad.detectors.uninformed_students.detector
    teach, students = teachers.train_teacher, ensembles.train_students

    def counting_teacher(patch_size, *rest):
        trained["teachers"].append(patch_size)
        return teach(patch_size, *rest)

    def counting_students(ensemble, *rest):
        trained["ensembles"].append(ensemble.patch_size)
        return students(ensemble, *rest)

    monkeypatch.setattr(teachers, "train_teacher", counting_teacher)
    monkeypatch.setattr(ensembles, "train_students", counting_students)
    axes = {"axes": "receptive_field map_parts", "variants": {"receptive_field": {"variants": {
        "p65": None, "all": {"students": {"receptive_fields": [17, 33]}}
    }}}}  # fmt: skip
    for _ in range(2):
        run_pipeline(project, "test", "students_ablation", runtime_params=SMALL | {"students_ablation": axes})
    assert sorted(trained["teachers"]) == [17, 33]
    assert sorted(trained["ensembles"]) == [17, 33]
    folder = project / "data/08_reporting" / PLACE / "students_ablation"
    summary = pd.read_parquet(folder / "summary.parquet")
    assert set(summary["variant"]) == {"p17", "p33", "all", "regression_error", "predictive_variance", "combined"}
    value = summary.set_index(["axis", "variant", "metric"])["value"]
    assert value["receptive_field", "p33", "pro_auc"] == value["map_parts", "combined", "pro_auc"]
    page = (folder / "students_ablation.html").read_text()
    assert "Uninformed Students ablation" in page
    assert "Is the sum of error and variance better than either?" in page
    runs = logged_runs(project)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum(run.data.tags.get("axis") == "map_parts" for run in runs) == 6
