"""Runs on folders: of few images, and of names that other folders have."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.detectors.folder import read_facts
from projects import SMALL, run_pipeline


def write_parts(root: Path, seed: int, good: int = 12) -> Path:
    """Write images of 64 x 64 pixels: `good` to train on, three of either kind to test."""
    generator = np.random.default_rng(seed)
    names = [f"train/good/{n:02d}.png" for n in range(good)]
    names += [f"test/{kind}/{n:02d}.png" for kind in ("good", "hole") for n in range(3)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(100, 156, size=(64, 64, 3), dtype=np.uint8)
        if "hole" in name:
            pixels[20:40, 20:40] = 0
        Image.fromarray(pixels).save(root / name)
    return root


def run_mkd(project: Path, root: Path) -> None:
    given = {"name": "folder", "category": None, "root": str(root), "image_size": 64}
    options = {"dataset": given, "cloner": {"training": {"epochs": 2}}}
    run_pipeline(project, pipeline="mkd", runtime_params=SMALL | options)


def read_results(project: Path, place: str) -> tuple[dict, pd.DataFrame]:
    folder = project / "data/08_reporting" / place / "mkd"
    return json.loads((folder / "metrics.json").read_text()), pd.read_csv(folder / "scores.csv")


@pytest.mark.long
def test_of_few_images_half_are_held_out_and_the_highest_of_them_sets_the_threshold(project, tmp_path):
    run_mkd(project, write_parts(tmp_path / "few", 0))
    metrics, scores = read_results(project, "folder/few")
    validation = scores.loc[scores["split"] == "validation", "score"]
    threshold = metrics["threshold"]
    assert len(validation) == threshold["normal_images"] == 6  # of twelve
    assert threshold["value"] == validation.max()  # ceil(7 * 0.95) = 7, and there are six
    assert threshold["expected_false_positive_rate"] == pytest.approx(1 / 7)
    assert metrics["remarks"][0].startswith("6 normal scores cannot promise a false positive rate of 5.0%")
    assert "hold out 13 more" in metrics["remarks"][0]  # 19 promise it
    facts = read_facts(project / "data/06_models/folder/few/mkd/detector")
    assert facts.validation_scores == sorted(validation)


@pytest.mark.long
def test_results_of_folders_of_one_name_lie_apart_and_name_their_root(project, tmp_path):
    roots = [write_parts(tmp_path / product / "images", seed) for seed, product in enumerate(("screw", "nut"))]
    for root in roots:
        run_mkd(project, root)
    reports = project / "data/08_reporting"
    places = sorted(path.relative_to(reports) for path in reports.glob("folder*/*"))
    assert len(places) == 2
    found = {str(place): read_results(project, str(place))[0]["root"] for place in places}
    assert found["folder/images"] == str(roots[0])
    assert set(found.values()) == {str(root) for root in roots}


@pytest.mark.long
def test_a_root_that_was_mistyped_does_not_keep_the_plain_name(project, tmp_path):
    given = {"name": "folder", "category": None, "root": str(tmp_path / "scrw/images"), "image_size": 64}
    with pytest.raises(Exception, match="scrw"):
        run_pipeline(project, pipeline="ingestion", runtime_params=SMALL | {"dataset": given})
    root = write_parts(tmp_path / "screw/images", 0)
    options = SMALL | {"dataset": given | {"root": str(root)}}
    run_pipeline(project, pipeline="ingestion", runtime_params=options)
    assert [path.name for path in (project / "data/03_primary").glob("folder*")] == ["folder"]
