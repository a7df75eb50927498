"""Folders as people have them, from files to metrics."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from projects import copy_project, run_pipeline

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
