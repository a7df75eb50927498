"""Pipelines share what is finished: a case of the same settings is never trained twice, whichever asks first."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

import kdad.detectors.mkd.detector
import kdad.experiments.run
import kdad.features.extraction
from kdad.detectors.registry import SYSTEMS
from projects import PROJECT, SMALL, STANDING

pytestmark = pytest.mark.long

#: `base` of an ablation repeats what the run's own blocks say, so that its variant is the run itself.
SAME = {
    "cloner": {"training": {"epochs": 1}},
    "scoring": {
        "localisation": ["discrepancy"],
        "detection": {"score": "map_top_mean", "points": "last 3", "normalisation": "per_pixel"},
        "forward_map": {"points": "first 3"},
        "gradient_map": {"points": "last 3", "smooth_grad_samples": 2},
    },
}
AXIS = {"question": "?", "compare_with": "as_the_run", "variants": {"as_the_run": {}}}
ABLATION = {"axes": "same", "variants": {"same": AXIS}, "base": SAME, "resamples": 100}
NAMED = yaml.safe_load((PROJECT / "conf/base/parameters/paper_tables.yml").read_text())["paper_tables"]["methods"]
TABLES = {"categories": ["brick"], "seeds": [0], "methods": dict.fromkeys(set(NAMED) - {"mkd"})}
RUN = SMALL | SAME | {"mkd_ablation": ABLATION, "paper_tables": TABLES}


@pytest.fixture
def done(monkeypatch) -> Counter:
    """Counts trainings, images that the source sees, and cases that are measured."""
    counts = Counter()
    places = {
        "trainings": (kdad.detectors.mkd.detector, "train_cloner"),
        "passages": (kdad.features.extraction, "_run"),
        "cases": (kdad.experiments.run, "_measure_into"),
    }
    for what, (module, name) in places.items():
        original = getattr(module, name)

        def counting(*arguments, what=what, original=original):
            counts[what] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, counting)
    return counts


def mkd_auroc(project: Path) -> float:
    report = project / "data/08_reporting/textures/brick/mkd"
    return json.loads((report / "metrics.json").read_text())["image_auroc"]


def ablation_auroc(project: Path) -> float:
    table = pd.read_parquet(project / "data/08_reporting/textures/brick/mkd_ablation/summary.parquet")
    (value,) = table.query("variant == 'as_the_run' and metric == 'image_auroc'")["value"]
    return value


def test_what_mkd_has_trained_an_ablation_and_the_tables_take(project, run, done, monkeypatch):
    for system in STANDING:
        monkeypatch.setattr(SYSTEMS[system].Settings, "stands_among_baselines", False)
    run(runtime_params=RUN)
    assert done == {"trainings": 1, "passages": 1}
    run(pipeline="mkd_ablation", runtime_params=RUN)
    assert done == {"trainings": 1, "passages": 1, "cases": 1}
    assert ablation_auroc(project) == mkd_auroc(project)
    run(pipeline="paper_tables", runtime_params=RUN)
    # The tables' cell is the ablation's case: it is not even measured again.
    assert done == {"trainings": 1, "passages": 1, "cases": 1}
    cells = pd.read_csv(project / "data/08_reporting/textures/paper_tables/cells.csv")
    (ours,) = cells.query("category == 'brick' and metric == 'image_auroc_percent'")["ours"].dropna()
    assert ours == pytest.approx(100 * mkd_auroc(project))


def test_what_an_ablation_has_trained_mkd_takes_and_other_settings_are_trained_anew(project, run, done):
    run(pipeline="mkd_ablation", runtime_params=RUN)
    run(runtime_params=RUN)
    assert done == {"trainings": 1, "passages": 1, "cases": 1}
    assert ablation_auroc(project) == mkd_auroc(project)
    run(runtime_params=RUN | {"cloner": {"training": {"epochs": 2}}})
    assert done == {"trainings": 2, "passages": 1, "cases": 1}
