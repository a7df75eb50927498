"""Folders as people have them, from files to metrics."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdad.detectors.folder import read_facts
from projects import SMALL, copy_project, run_pipeline

SIDE = 64
RUN = {
    "dataset": {"name": "folder", "category": None, "image_size": SIDE, "textures": {}},
    "cloner": {"training": {"epochs": 1}},
    "scoring": {"localisation": ["discrepancy"]},
    "reporting": {"sheet_rows": 1},
}


def part(seed: int, spot: int = 0, side: int = SIDE) -> np.ndarray:
    """Return soft stripes with noise, and a dark square of `spot` pixels in the middle."""
    generator = np.random.default_rng(seed)
    grey = 130 + 40 * np.sin(np.arange(side) / side * 25) + generator.normal(0, 6, (side, side))
    grey[marked(spot, side)] = 30
    return grey.clip(0, 255).astype(np.uint8)


def marked(spot: int, side: int = SIDE) -> np.ndarray:
    """Return where the square is."""
    mask = np.zeros((side, side), dtype=bool)
    mask[side // 2 : side // 2 + spot, side // 2 : side // 2 + spot] = True
    return mask


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def run(tmp_path, migrated_database):
    """Run `mkd` on a folder and return its metrics and scores."""
    project = copy_project(tmp_path / "project", migrated_database)

    def run_on(root: Path, name: str) -> tuple[dict, pd.DataFrame]:
        run_pipeline(project, "test", runtime_params=RUN | {"dataset": RUN["dataset"] | {"root": str(root)}})
        report = project / "data/08_reporting/folder" / name / "mkd"
        return json.loads((report / "metrics.json").read_text()), pd.read_csv(report / "scores.csv")

    return run_on


@pytest.mark.long
def test_images_that_are_anomalous_as_a_whole_and_names_of_any_kind(tmp_path, run, caplog):
    base = tmp_path / "零件 a${b}"
    for number in range(8):
        save(part(number), base / f"train/OK/{number}\n.png")
    for number in range(3):
        save(part(50 + number), base / f"test/Normal/{number}.png")
        save(part(90 + number).T.copy(), base / f"test/划痕, 大$x_{{c$/{number}.png")
        save(np.full((SIDE, SIDE), 255, np.uint8), base / f"ground_truth/划痕, 大$x_{{c$/{number}_mask.png")
    metrics, scores = run(base, r"零件 a$\x7bb\x7d")
    assert (metrics["test_normal"], metrics["test_anomalous"]) == (3, 3)
    assert 0 <= metrics["pixel_auroc"] <= 1
    assert metrics["pixel_auroc_mkd_protocol"] is None
    assert metrics["metrics_left_out"].startswith("pixel_auroc_mkd_protocol: it is of masked images alone")
    assert scores.loc[scores["label"] == 1, "kind"].unique().tolist() == ["划痕, 大$x_{c$"]
    assert "taken as normal: 8 by 'OK', 3 by 'Normal'" in caplog.text
    assert "taken as anomalous: 3 by '划痕, 大$x_{c$'" in caplog.text


@pytest.mark.long
def test_defects_smaller_than_a_pixel_of_the_model_are_measured(tmp_path, run, caplog):
    base = tmp_path / "dots"
    side = 5 * SIDE
    for number in range(8):
        save(part(number, side=side), base / f"train/good/{number}.png")
    for number in range(3):
        save(part(50 + number, side=side), base / f"test/good/{number}.png")
        save(part(90 + number, 2, side), base / f"test/dot/{number}.png")
        # Of 5 pixels the third is taken: rows and columns 162, 167, ... of a square at 160 and 161.
        save(marked(2, side).astype(np.uint8), base / f"ground_truth/dot/{number}_mask.png")
    metrics, _ = run(base, "dots")
    assert metrics["localisation_resolution"] == "the masks' own resolution"
    assert 0 <= metrics["pixel_auroc"] <= 1
    assert 0 <= metrics["pro_auc"] <= 1
    assert metrics["metrics_left_out"] == f"pixel_auroc_mkd_protocol: no mask is left at {SIDE} x {SIDE} pixels"
    assert "matched for 3 of 3 anomalous images; 3 that vanish at the model's size" in caplog.text


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
