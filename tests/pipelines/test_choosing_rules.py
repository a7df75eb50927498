"""A run that chooses rules on drawn defects: what it keeps, says and logs."""

import json

import numpy as np
import pytest

from kdad.detectors import load
from kdad.detectors.mkd.detector import choose_rules
from projects import SMALL, artifacts_of, copy_project, logged_runs, run_pipeline

_IMAGES = {"train_images": 12, "validation_images": 8, "test_normal": 4, "test_per_defect": 1}
_CHOOSING = {"choose": "drawn_defects", "choosing": {"drawn_images": 18, "margin": 0.0}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database):
    """A run's project, the calls of `choose_rules`, and what the console said."""
    project, calls = copy_project(tmp_path_factory.mktemp("project"), migrated_database), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "kdad.detectors.mkd.detector.choose_rules", lambda *given: calls.append(given) or choose_rules(*given)
        )
        scoring = {"scoring": {"localisation": ["discrepancy"], **_CHOOSING}}
        options = SMALL | {"dataset": {"textures": _IMAGES}, "measuring": {"cross_fit": 3}} | scoring
        run_pipeline(project, "test", pipeline="mkd", runtime_params=options)
    return project, calls


def test_every_rule_that_was_tried_is_in_the_metrics_and_with_the_detector(finished):
    project, _ = finished
    metrics = json.loads((project / "data/08_reporting/textures/brick/mkd/metrics.json").read_text())
    tried = metrics["tried_rules"]
    named = [(one["block"], one["rule"]) for one in tried]
    assert named[:2] == [("detection", "fixed"), ("detection", "first_points")]
    assert len(named) == 11
    assert [sum(one["chosen"] for one in tried if one["block"] == block) for block in ("detection", "forward_map")] == [
        1,
        1,
    ]
    kept = load(project / "data/06_models/textures/brick/mkd/detector")
    assert kept.tried_rules == tried
    assert np.isfinite(kept.threshold.value)


def test_the_detector_chooses_once_and_folds_judge_by_its_rules(finished):
    project, calls = finished
    assert len(calls) == 1
    facts = json.loads((project / "data/06_models/textures/brick/mkd/detector/detector.json").read_text())
    assert facts["threshold"]["folds"] == 3
    assert facts["settings"]["scoring"]["choose"] == "none"


def test_the_table_is_logged(finished):
    project, _ = finished
    (run,) = logged_runs(project)
    assert "metrics.json" in artifacts_of(project, run)
    assert run.data.params["scoring.choose"] == "drawn_defects"
