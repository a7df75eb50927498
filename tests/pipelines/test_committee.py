"""A committee from its command to its folder: one pass of the source, no second training, an axis of members."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kdad.detectors.mkd.detector
import kdad.features.extraction
from kdad.detectors.opening import open_detector
from projects import SMALL, copy_project, half_written, kept_by, logged_runs, run_pipeline

pytestmark = pytest.mark.long  # a committee's own tests, and those of every system, show the rest

REPORTS = Path("data/08_reporting/textures/brick")
MEMBERS = ["mkd", "reverse_distillation"]
RUN = SMALL | {"scoring": {"localisation": ["discrepancy"]}}


def columns(project: Path, system: str) -> pd.DataFrame:
    return pd.read_csv(project / REPORTS / system / "scores.csv").set_index("id")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    """A project where `mkd` has run, and then a committee."""
    project = copy_project(tmp_path_factory.mktemp("committee"), migrated_database)
    counts = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for what, module, name in (
            ("trainings", kdad.detectors.mkd.detector, "train_cloner"),
            ("passes", kdad.features.extraction, "_run"),
        ):
            original = getattr(module, name)

            def counting(*arguments, what=what, original=original):
                counts[what] += 1
                return original(*arguments)

            patch.setattr(module, name, counting)
        run_pipeline(project, "test", "mkd", runtime_params=RUN)
        run_pipeline(project, "test", "committee", runtime_params=RUN)
    assert counts == {"trainings": 1, "passes": 1}
    return project


@pytest.fixture(scope="module")
def metrics(finished) -> dict:
    return json.loads((finished / REPORTS / "committee/metrics.json").read_text())


def test_its_pipeline_leaves_one_detector_with_the_product_first_and_each_members_map(finished, metrics):
    assert list(metrics["localisation"]) == ["product", *MEMBERS]
    detector = open_detector(finished / "data/06_models/textures/brick/committee/detector")
    assert (detector.system, list(detector.members)) == ("committee", MEMBERS)
    assert detector.threshold.value == metrics["threshold"]["value"]
    run = logged_runs(finished)[0]
    assert kept_by(finished, run) == {"detector.json", "learnt.safetensors"}
    assert not half_written(finished)


def test_a_member_says_what_it_says_alone(finished, metrics):
    committee, alone = columns(finished, "committee"), columns(finished, "mkd")
    np.testing.assert_allclose(committee["mkd_score"], alone["score"], rtol=1e-4, atol=1e-4)
    own = json.loads((finished / REPORTS / "mkd/metrics.json").read_text())["localisation"]["discrepancy"]
    assert metrics["localisation"]["mkd"]["pixel_auroc"] == pytest.approx(own["pixel_auroc"], abs=1e-4)


def test_an_ablation_asks_who_should_sit_in_it(finished, metrics):
    variants = {"alone": {"committee": {"members": ["mkd"]}}, "both": {}}
    axis = {"question": "who?", "compare_with": "alone", "variants": variants}
    block = {"axes": "who", "variants": {"who": axis}, "resamples": 100}
    run_pipeline(finished, "test", "committee_ablation", runtime_params=RUN | {"committee_ablation": block})
    table = pd.read_parquet(finished / REPORTS / "committee_ablation/summary.parquet").query("metric == 'pixel_auroc'")
    found = table.set_index("variant")["value"]
    own = json.loads((finished / REPORTS / "mkd/metrics.json").read_text())
    assert found["both"] == metrics["pixel_auroc"]
    assert found["alone"] == pytest.approx(own["pixel_auroc"], abs=1e-5)  # a geometric mean of one map


def test_members_that_train_in_no_epochs_leave_an_empty_history(finished):
    run = RUN | {"committee": {"members": ["position_gaussian"]}}
    run_pipeline(finished, "test", "committee", runtime_params=run)
    assert (finished / REPORTS / "committee/loss.png").is_file()
    history = pd.read_csv(finished / "data/06_models/textures/brick/committee/loss_history.csv")
    assert (list(history), len(history)) == (["epoch", "split", "term", "value"], 0)
