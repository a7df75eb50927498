"""What Kedro reads of functions whose first argument is fixed."""

import inspect
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.pipeline import Node, Pipeline
from kedro.validation import TypeExtractor

import kdad.detectors.feature_distance
from kdad.detectors.opening import open_detector
from kdad.pipelines.detector import bind_first
from kdad.scoring.parameters import MeasuringParameters
from projects import FIGURES, PROJECT, SMALL, STANDING, copy_project, half_written, kept_by, logged_runs, run_pipeline


def general(system: str, images: list[int], measuring: MeasuringParameters, **blocks: Any) -> tuple[Any, ...]:
    """Return what came in."""
    return system, images, measuring, blocks


INPUTS = {"images": "images", "measuring": "params:measuring", "cloner": "params:cloner"}


def test_the_first_argument_is_fixed_and_gone():
    made = bind_first(general, "mkd")
    assert list(inspect.signature(made).parameters) == ["images", "measuring", "blocks"]
    assert made([1], MeasuringParameters(), cloner=2) == ("mkd", [1], MeasuringParameters(), {"cloner": 2})
    assert (made.__name__, made.__doc__) == ("general", "Return what came in.")


def test_kedro_finds_the_models_of_hinted_arguments_and_leaves_other_blocks_as_they_are():
    node = Node(bind_first(general, "mkd"), INPUTS, "made")
    found = TypeExtractor({"": Pipeline([node])}).extract_types_from_pipelines()
    assert found == {"measuring": MeasuringParameters}


def test_kedro_wants_every_argument_that_is_left():
    with pytest.raises(TypeError, match=r"expected .*'images'"):
        Node(bind_first(general, "mkd"), {"measuring": "params:measuring"}, "made")


def test_functions_bound_to_different_things_stay_apart():
    first, second = (bind_first(general, name) for name in ("mkd", "stfpm"))
    assert (first([], None)[0], second([], None)[0]) == ("mkd", "stfpm")
    assert next(iter(inspect.signature(general).parameters)) == "system"


PLACE = "textures/brick"


def only(block: str, *names: str) -> dict[str, dict[str, None]]:
    """Leave every method of a block out but these."""
    methods = yaml.safe_load((PROJECT / f"conf/base/parameters/{block}.yml").read_text())[block]["methods"]
    return {"methods": dict.fromkeys(set(methods) - set(names))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated_database) -> Path:
    project = copy_project(tmp_path_factory.mktemp("stfpm"), migrated_database)
    run_pipeline(project, "test", "stfpm", runtime_params=SMALL)
    return project


@pytest.fixture(scope="module")
def metrics(finished) -> dict:
    return json.loads((finished / f"data/08_reporting/{PLACE}/stfpm/metrics.json").read_text())


@pytest.fixture
def trained(monkeypatch) -> Counter:
    counts = Counter()
    train = kdad.detectors.feature_distance.train

    def counting(task, *arguments):
        counts[task.name] += 1
        return train(task, *arguments)

    monkeypatch.setattr(kdad.detectors.feature_distance, "train", counting)
    return counts


@pytest.mark.long
def test_its_pipeline_leaves_metrics_sheet_and_detector(finished, metrics):
    report = finished / f"data/08_reporting/{PLACE}/stfpm"
    assert {path.name for path in report.iterdir()} == {
        *("metrics.json", "scores.csv", "heatmaps.png", *FIGURES),
        "report.html",
    }
    assert 0 <= metrics["image_auroc"] <= 1
    assert 0 <= metrics["pro_auc"] <= 1
    detector = open_detector(finished / f"data/06_models/{PLACE}/stfpm/detector")
    assert (detector.system, detector.threshold.value) == ("stfpm", metrics["threshold"]["value"])
    (run,) = logged_runs(finished)
    assert kept_by(finished, run) == {"detector.json", "learnt.safetensors"}
    assert not half_written(finished)


@pytest.mark.long
def test_it_has_a_row_of_the_baselines_without_being_named_and_is_not_trained_again(finished, metrics, trained):
    blocks = SMALL | {"baselines": only("baselines", "nearest_pixels")}
    run_pipeline(finished, "test", "baselines", runtime_params=blocks)
    table = pd.read_csv(finished / f"data/08_reporting/{PLACE}/baselines/baselines.csv").set_index("method")
    assert table.index.tolist() == ["nearest_pixels", *STANDING]
    assert table.loc["stfpm", "image_auroc"] == metrics["image_auroc"]
    assert table.loc["stfpm", "pro_auc"] == metrics["pro_auc"]
    assert "stfpm" not in trained


@pytest.mark.long
def test_it_has_cells_of_the_papers_tables_without_being_named_and_is_not_trained_again(finished, metrics, trained):
    block = only("paper_tables", "nearest_pixels") | {"categories": ["brick"], "seeds": [0]}
    run_pipeline(finished, "test", "paper_tables", runtime_params=SMALL | {"paper_tables": block})
    cells = pd.read_csv(finished / "data/08_reporting/textures/paper_tables/cells.csv")
    ours = cells[(cells["category"] == "brick") & cells["ours"].notna()]
    assert set(ours["method"]) == {"nearest_pixels", *STANDING}
    (auroc,) = ours.query("method == 'stfpm' and metric == 'image_auroc_percent'")["ours"]
    assert auroc == pytest.approx(100 * metrics["image_auroc"])
    assert "stfpm" not in trained
