"""A small ablation, run for real: what it trains and reuses, what it leaves in MLflow, what it says of failures."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from PIL import Image

import kdad.detectors.mkd.detector
import kdad.experiments.steps
import kdad.features.extraction
from kdad.detectors.opening import open_detector
from kdad.parameters.strict import flatten
from projects import SMALL, artifacts_of, copy_project, half_written, kept_by, logged_runs, run_pipeline

AXES = {
    **SMALL,
    "mkd_ablation": {"axes": "loss_terms direction_form fusion", "resamples": 100},
}
ONE_AXIS = AXES | {"mkd_ablation": {"axes": "loss_terms", "resamples": 100}}


def count_work(patch: pytest.MonkeyPatch) -> Counter:
    """Count from now on what is trained, and how many images the source sees."""
    counts = Counter()
    train, images = kdad.detectors.mkd.detector.train_cloner, kdad.features.extraction._run

    def counting_train(*arguments):
        counts["trainings"] += 1
        return train(*arguments)

    def counting_images(*arguments):
        for batch in images(*arguments):
            counts["source images"] += len(batch[0])
            yield batch

    patch.setattr(kdad.detectors.mkd.detector, "train_cloner", counting_train)
    patch.setattr(kdad.features.extraction, "_run", counting_images)
    return counts


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, migrated_database) -> tuple[Path, Counter]:
    """A finished project, and what its one run took."""
    project = copy_project(tmp_path_factory.mktemp("project"), migrated_database)
    with pytest.MonkeyPatch.context() as patch:
        counts = count_work(patch)
        run_pipeline(project, "test", "mkd_ablation", runtime_params=AXES)
    return project, counts


@pytest.fixture(scope="module")
def finished(first_run) -> Path:
    return first_run[0]


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of the finished project, to change."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def trained(monkeypatch) -> Counter:
    return count_work(monkeypatch)


def report_of(project: Path) -> Path:
    return project / "data/08_reporting/textures/brick/mkd_ablation"


def summary_of(project: Path) -> pd.DataFrame:
    return pd.read_parquet(report_of(project) / "summary.parquet")


def metrics_of(project: Path) -> pd.DataFrame:
    """The summary without wall times."""
    table = summary_of(project)
    return table[table["metric"] != "train_seconds"].reset_index(drop=True)


def test_summary_has_every_variant_of_the_chosen_axes(finished):
    table = summary_of(finished)
    assert table.columns.tolist() == ["axis", "variant", "category", "seed", "metric", "value"]
    assert table.groupby("axis")["variant"].nunique().to_dict() == {"loss_terms": 5, "direction_form": 2, "fusion": 4}
    pd.testing.assert_frame_equal(table, pd.read_csv(report_of(finished) / "summary.csv"))
    page = (report_of(finished) / "mkd_ablation.html").read_text()
    assert all(name in page for name in {*table["axis"], *table["variant"]})


def test_equal_configurations_train_once_and_the_source_sees_each_image_once(first_run):
    project, counts = first_run
    # loss_terms has five; of direction_form only whole_vector is new; fusion only maps anew.
    assert counts["trainings"] == 6
    images = len(pd.read_csv(project / "data/03_primary/textures/brick/mkd_ablation/split.csv"))
    assert counts["source images"] == images


@pytest.mark.long
def test_a_repeated_run_trains_nothing_and_says_the_same(project, trained):
    before = metrics_of(project)
    run_pipeline(project, "test", "mkd_ablation", runtime_params=AXES)
    assert trained["trainings"] == 0
    pd.testing.assert_frame_equal(metrics_of(project), before)


@pytest.mark.long
def test_a_changed_variant_alone_is_trained_again(project, trained):
    before = metrics_of(project).set_index(["axis", "variant", "metric"])["value"]
    path = project / "conf/base/parameters/ablation.yml"
    text = path.read_text()
    assert "value_weight: 5.0" in text
    path.write_text(text.replace("value_weight: 5.0", "value_weight: 0.01"))
    run_pipeline(project, "test", "mkd_ablation", runtime_params=AXES)
    assert trained["trainings"] == 1
    after = metrics_of(project).set_index(["axis", "variant", "metric"])["value"]
    changed = (after != before)[lambda differs: differs].index.get_level_values("variant")
    assert set(changed) == {"value_tenfold"}


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was_to_the_same_summary(finished, tmp_path, migrated_database, trained):
    project = copy_project(tmp_path / "killed", migrated_database)
    options = ",".join(f"{name}={value}" for name, value in flatten(ONE_AXIS).items())
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipeline=mkd_ablation", f"--params={options}"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    models = project / "data/06_models/store"
    deadline = time.monotonic() + 120
    while not (models.is_dir() and sum(not path.suffix for path in models.iterdir()) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = len([path for path in models.iterdir() if not path.suffix])
    run_pipeline(project, "test", "mkd_ablation", runtime_params=ONE_AXIS)
    assert trained["trainings"] == 5 - done
    expected = metrics_of(finished).query("axis == 'loss_terms'").reset_index(drop=True)
    pd.testing.assert_frame_equal(metrics_of(project), expected)
    assert not half_written(project)


def children_of(project: Path) -> list[mlflow.entities.Run]:
    runs = logged_runs(project)
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def test_each_case_is_a_finished_child_run_with_what_an_axis_is_compared_by(finished):
    children = children_of(finished)
    assert len(children) == 11
    assert {run.info.status for run in children} == {"FINISHED"}
    (child,) = [run for run in children if run.data.tags["variant"] == "value_tenth"]
    assert child.data.tags.items() >= {"axis": "loss_terms", "seed": "0", "category": "brick"}.items()
    assert child.data.params["cloner.loss.value_weight"] == "0.05"
    assert {"image_auroc", "pixel_auroc", "pro_auc", "cloner.validation.total"} <= set(child.data.metrics)
    assert int(child.data.params["flops"]) > 0 and "flops" not in child.data.metrics
    assert {one.tags[0].value for one in child.inputs.dataset_inputs} == {"training", "validation", "test"}
    assert kept_by(finished, child) >= {"detector.json", "learnt.safetensors"}
    assert artifacts_of(finished, child) == {"heatmaps.png", "scores.csv"}


def test_each_case_keeps_its_detector_where_its_run_says(finished):
    children = children_of(finished)
    for child in children:
        tags = child.data.tags
        assert {"commit", "made", "detector", "reused"} <= set(tags)
        kept = Path(tags["detector"])
        assert kept.parent.parent == finished / "data/07_model_output/store"
    reused = {
        (run.data.tags["axis"], run.data.tags["variant"]) for run in children if run.data.tags["reused"] == "True"
    }
    # The same settings as loss_terms.both.
    same = {("loss_terms", "both"), ("direction_form", "per_location"), ("fusion", "geometric_all")}
    assert len(reused) == 2
    assert reused < same
    (child,) = [run for run in children if run.data.tags["variant"] == "value_tenth"]
    detector = open_detector(Path(child.data.tags["detector"]))
    assert detector.settings.cloner.loss.value_weight == 0.05
    assert detector.record["metrics"]["image_auroc"] == child.data.metrics["image_auroc"]
    assert detector.threshold.value == child.data.metrics["threshold"]
    assert not half_written(finished)


def test_the_images_and_every_result_lie_beside_the_report(finished):
    place = finished / "data/03_primary/textures/brick/mkd_ablation/split.csv"
    split = pd.read_csv(place)
    assert split["category"].unique().tolist() == ["brick"]
    results = json.loads((finished / "data/07_model_output/textures/brick/mkd_ablation/mkd.json").read_text())
    assert len(results) == 11
    assert {result["axis"] for result in results} == {"loss_terms", "direction_form", "fusion"}


def test_the_images_of_a_plan_are_data_sets_of_its_run(finished):
    parent = next(run for run in logged_runs(finished) if "mlflow.parentRunId" not in run.data.tags)
    assert {one.tags[0].value for one in parent.inputs.dataset_inputs} == {"training", "validation", "test"}
    assert {one.dataset.name for one in parent.inputs.dataset_inputs} == {"textures/brick"}


@pytest.mark.long
def test_one_failed_variant_does_not_lose_the_others(project, monkeypatch):
    measure = kdad.experiments.steps.measure
    calls = iter(range(100))

    def failing(*arguments):
        if next(calls) == 2:
            raise RuntimeError("no memory left")
        return measure(*arguments)

    shutil.rmtree(project / "data/07_model_output")
    monkeypatch.setattr(kdad.experiments.steps, "measure", failing)
    with pytest.raises(KedroCliError, match=r"(?s)1 cases are missing.*no memory left"):
        run_pipeline(project, "test", "mkd_ablation", runtime_params=ONE_AXIS)
    assert mlflow.active_run() is None
    statuses = Counter(run.info.status for run in children_of(project))
    assert statuses["FAILED"] == 1
    assert statuses["FINISHED"] == 4
    (missing,) = pd.read_csv(report_of(project) / "missing.csv").to_dict("records")
    table = summary_of(project)
    assert len(table.groupby(["axis", "variant"])) == 4
    assert table[(table["axis"] == missing["axis"]) & (table["variant"] == missing["variant"])].empty
    assert "no memory left" in (report_of(project) / "mkd_ablation.html").read_text()
    assert not half_written(project)


@pytest.mark.long
def test_a_changed_mask_is_measured_again_without_training(project, tmp_path, trained):
    root = tmp_path / "parts"
    generator = np.random.default_rng(0)
    files = [f"train/good/{n}.png" for n in range(6)] + [
        f"test/{kind}/{n}.png" for kind in ("good", "hole") for n in (0, 1)
    ]
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 10:30] = 255
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(root / name)
    (root / "ground_truth/hole").mkdir(parents=True)
    for n in (0, 1):
        Image.fromarray(mask).save(root / f"ground_truth/hole/{n}_mask.png")
    options = {
        "dataset": {"name": "folder", "category": None, "root": str(root)},
        "reporting": SMALL["reporting"],
        "mkd_ablation": {"axes": "direction_form"},
    }
    summaries = []
    for changed_mask in (mask, mask.T[::-1]):
        Image.fromarray(np.ascontiguousarray(changed_mask)).save(root / "ground_truth/hole/0_mask.png")
        trained.clear()
        run_pipeline(project, "test", "mkd_ablation", runtime_params=options)
        path = project / "data/08_reporting/folder/parts/mkd_ablation/summary.parquet"
        summaries.append(pd.read_parquet(path).set_index(["variant", "metric"])["value"])
    assert trained["trainings"] == 0
    first, second = summaries
    assert second["whole_vector", "image_auroc"] == first["whole_vector", "image_auroc"]
    assert second["whole_vector", "pixel_auroc"] != first["whole_vector", "pixel_auroc"]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": "loss_term"}, "did you mean 'loss_terms'"),
        ({"seeds": [1, 1]}, "seeds names a value twice"),
        ({"base": {"cloner": {"training_points": ["block3"]}}}, "no critical point 'block3'; did you mean 'block"),
    ],
)
def test_bad_input_is_one_message_before_anything_trains(project, trained, change, message):
    with pytest.raises(KedroCliError, match=message):
        run_pipeline(project, "test", "mkd_ablation", runtime_params={"mkd_ablation": AXES["mkd_ablation"] | change})
    assert trained["trainings"] == 0


PLAN = {"mkd_ablation": {"axes": "loss_terms", "resamples": 100}}


def _ablate(project: Path, **workers) -> pd.DataFrame:
    """Return the summary's metrics, but for times and memory."""
    run_pipeline(project, pipeline="mkd_ablation", runtime_params=SMALL | PLAN | {"workers": workers})
    table = pd.read_csv(project / "data/08_reporting/textures/brick/mkd_ablation/summary.csv")
    measured = table[~table["metric"].str.contains("seconds|milli|megabytes")].reset_index(drop=True)
    return measured[["axis", "variant", "category", "seed", "metric", "value"]]


@pytest.mark.long
def test_workers_give_what_one_process_gives(tmp_path, migrated_database, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order differ in their last digits
    one, many = (copy_project(tmp_path / name, migrated_database) for name in ("one", "many"))
    monkeypatch.chdir(one)
    table = _ablate(one)
    monkeypatch.chdir(many)
    pd.testing.assert_frame_equal(table, _ablate(many, count=2, threads=1), check_exact=True)
    metrics = []
    for project in (one, many):
        runs = logged_runs(project)
        (parent,) = [run for run in runs if "axis" not in run.data.tags]
        children = [run for run in runs if "axis" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {run.info.status for run in runs} == {"FINISHED"}
        metrics.append({run.data.tags["variant"]: run.data.metrics["image_auroc"] for run in children})
    assert len(children) == len(metrics[0]) == 5 and metrics[0] == metrics[1]
