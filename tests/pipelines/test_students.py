"""Uninformed Students and their ablation over the whole DAG of `conf/test`, and what stops them early."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError

import kdad.pipelines.students.nodes
import kdad.pipelines.teacher.nodes
from projects import copy_project, run_pipeline

PLACE = "textures/brick"
METHODS = ["combined", "regression_error", "predictive_variance", "combined_p17", "combined_p33"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("students"), migrated_database)
    run_pipeline(project, "test", "uninformed_students")
    return project


@pytest.fixture(scope="module")
def report(finished) -> Path:
    return finished / "data/08_reporting" / PLACE / "uninformed_students"


@pytest.fixture(scope="module")
def metrics(report) -> dict:
    return json.loads((report / "metrics.json").read_text())


def test_metrics_of_each_map_and_scale(metrics):
    assert list(metrics["localisation"]) == METHODS
    assert metrics["receptive_fields"] == [17, 33]
    assert metrics["source"] == "teacher of efficientnet_lite0"
    assert 0 <= metrics["pro_auc"] <= 1


def test_the_same_figures_and_tables_as_mkd(finished, report):
    assert {path.name for path in report.iterdir()} == {
        *("metrics.json", "scores.csv", "roc.png", "pro.png", "score_histogram.png", "loss.png", "heatmaps.png"),
        "teacher_loss.png",
    }
    assert not [path for path in finished.rglob("*") if path.suffix in (".tmp", ".checkpoint", ".partial")]


def test_constants_come_from_held_out_normal_images_only(finished, metrics):
    maps = finished / "data/07_model_output" / PLACE / "uninformed_students/grid_maps"
    split = pd.read_csv(finished / "data/03_primary" / PLACE / "split.csv")
    held_out = int((split["split"] == "validation").sum())
    error = np.load(maps / "e_p33.npy")
    assert len(error) == (split["split"] != "train").sum()
    assert metrics["map_constants"]["e_p33"]["mean"] == pytest.approx(error[:held_out].mean(), rel=1e-5)
    assert metrics["map_constants"]["e_p33"]["sd"] == pytest.approx(error[:held_out].std(), rel=1e-5)


def test_the_combined_map_is_the_mean_over_scales_of_normalised_error_and_variance(finished, metrics):
    folder = finished / "data/07_model_output" / PLACE / "uninformed_students"
    expected = 0.0
    for field in (17, 33):
        for part in ("e", "v"):
            constants = metrics["map_constants"][f"{part}_p{field}"]
            expected = (
                expected + (np.load(folder / f"grid_maps/{part}_p{field}.npy") - constants["mean"]) / constants["sd"]
            )
    found = np.load(folder / "raw_maps/combined.npy")
    np.testing.assert_allclose(found[:, ::4, ::4], expected / 2, rtol=1e-4, atol=1e-4)


def test_threshold_comes_from_held_out_images(report, metrics):
    scores = pd.read_csv(report / "scores.csv")
    held_out = scores.loc[scores["split"] == "validation", "score"].to_numpy()
    assert np.isclose(held_out, metrics["threshold"]["value"]).any()
    assert ((scores["score"] > scores["threshold"]) == scores["decision"]).all()


def test_teacher_and_student_losses_are_logged(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    (logged,) = client.search_runs([client.get_experiment_by_name("kdad").experiment_id])
    assert logged.info.status == "FINISHED"
    for name in ("teacher.validation.p17.knowledge", "students.validation.p33.total"):
        assert [point.step for point in client.get_metric_history(logged.info.run_id, name)] == [0, 1]
    assert "localisation.combined_p17.pro_auc" in logged.data.metrics


def test_another_category_takes_the_same_teachers(finished, metrics, monkeypatch):
    def fail(*_arguments) -> None:
        raise AssertionError("a teacher was trained again")

    monkeypatch.setattr(kdad.pipelines.teacher.nodes, "train_teacher", fail)
    run_pipeline(finished, "test", "uninformed_students", runtime_params={"dataset": {"category": "grass"}})
    run_pipeline(finished, "test", "uninformed_students")
    path = finished / "data/08_reporting" / PLACE / "uninformed_students/metrics.json"
    assert json.loads(path.read_text())["image_auroc"] == metrics["image_auroc"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"students": {"count": 0}}, "students.count"),
        ({"students": {"receptive_fields": [16]}}, "receptive field 16 is unknown; choose from 17, 33, 65"),
        ({"teacher": {"knowledge_weight": 0, "compactness_weight": 0}}, "all 0: nothing would be learnt"),
        ({"students": {"receptive_fields": [17, 65]}, "dataset": {"image_size": 64}}, "smaller than the receptive"),
        ({"teacher": {"pool": "nowhere"}}, "teacher.pool 'nowhere' is not a folder"),
        ({"teacher": {"pool": "conf"}}, "holds 0 images"),
        ({"students": {"augmentation": "flips", "descriptors": "cache"}}, "new in every epoch"),
        ({"students_ablation": {"base": {"students": {"receptive_fields": [65]}}}}, "smaller than the receptive"),
    ],
)
def test_bad_input_is_one_message_before_anything_trains(project, monkeypatch, change, message):
    def fail(*_arguments) -> None:
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr(kdad.pipelines.teacher.nodes, "train_teacher", fail)
    pipeline = "students_ablation" if "students_ablation" in change else "uninformed_students"
    with pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", pipeline, runtime_params=change)


def test_a_missing_or_foreign_teacher_is_an_error(finished):
    path = finished / "data/06_models" / PLACE / "teachers.json"
    kept = path.read_text()
    found = json.loads(kept)
    try:
        path.write_text(json.dumps(found | {"17": found["33"]}))
        with pytest.raises(KedroCliError, match="its receptive_field is 33, not 17"):
            run_pipeline(finished, "test", "students")
        path.write_text(json.dumps({"17": found["17"] | {"file": "nothing.safetensors"}}))
        with pytest.raises(
            KedroCliError, match=r"there is no teacher 'nothing.safetensors'; run the pipeline 'teacher'"
        ):
            run_pipeline(finished, "test", "students")
        path.write_text(kept)
        with pytest.raises(KedroCliError, match="its depth is 16, not 8"):
            run_pipeline(finished, "test", "students", runtime_params={"teacher": {"depth": 8}})
    finally:
        path.write_text(kept)


def test_the_ablation_trains_equal_configurations_once(project, monkeypatch):
    trained = {"teachers": [], "ensembles": []}
    teach, students = kdad.pipelines.teacher.nodes.train_teacher, kdad.pipelines.students.nodes.train_ensemble

    def counting_teacher(patch_size, *rest):
        trained["teachers"].append(patch_size)
        return teach(patch_size, *rest)

    def counting_students(opened, *rest):
        trained["ensembles"].append(opened.teacher.patch_size)
        return students(opened, *rest)

    monkeypatch.setattr(kdad.pipelines.teacher.nodes, "train_teacher", counting_teacher)
    monkeypatch.setattr(kdad.pipelines.students.nodes, "train_ensemble", counting_students)
    axes = {"axes": "receptive_field map_parts", "variants": {"receptive_field": {"variants": {
        "p65": None, "all": {"students": {"receptive_fields": [17, 33]}}
    }}}}  # fmt: skip
    for _ in range(2):
        run_pipeline(project, "test", "students_ablation", runtime_params={"students_ablation": axes})
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
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("kdad").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum(run.data.tags.get("axis") == "map_parts" for run in runs) == 6
