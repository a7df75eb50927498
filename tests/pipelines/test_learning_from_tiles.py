"""A category of large images is learnt from its tiles, and predicts whole large images by a threshold of tiles."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.cli.utils import KedroCliError
from PIL import Image

import kdad.detectors
from kdad.images.splits import whole_name
from kept_detectors import predict, write_masks
from projects import copy_project, half_written, run_pipeline

HEIGHT, WIDTH = 150, 200
TILES = {"size": 64, "overlap": 24}
PER_IMAGE = 20  # rows: ceil(126 / 40) = 4, columns: ceil(176 / 40) = 5
PLACE = Path("folder/wall_tiles_64_24/stfpm")
DETECTOR = Path("data/06_models") / PLACE / "detector"


def _write(path: Path, seed: int, torn: bool) -> None:
    """Write an image of grey noise; a torn one is white in rows 20 to 35, columns 20 to 39."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(128, 25, (HEIGHT, WIDTH))
    if torn:
        noise[20:36, 20:40] = 255
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def walls(tmp_path_factory) -> Path:
    """Images of 150 x 200: eight to train on, two good and two torn ones to test, and nine others that are normal."""
    root, seeds = tmp_path_factory.mktemp("walls"), iter(range(100))
    for folder, count in (("wall/train/good", 8), ("wall/test/good", 2), ("wall/test/torn", 2), ("normal", 9)):
        for number in range(count):
            _write(root / folder / f"{number}.png", next(seeds), folder.endswith("torn"))
    write_masks(root / "wall", ["0", "1"], (HEIGHT, WIDTH))
    return root


@pytest.fixture(scope="module")
def project(tmp_path_factory, migrated_database, walls) -> Path:
    """A project with a detector that has learnt tiles."""
    project = copy_project(tmp_path_factory.mktemp("learning"), migrated_database)
    dataset = {"name": "folder", "root": str(walls), "category": "wall", "validation_fraction": 0.25, "tiles": TILES}
    tiny = {"source": {"name": "timm:test_resnet", "weights": "random"}, "points": "first 3", "training": {"epochs": 5}}
    run_pipeline(project, "test", "stfpm", runtime_params={"dataset": dataset, "stfpm": tiny})
    return project


@pytest.fixture(scope="module")
def calibrated(project, walls) -> Path:
    """The folder of the detector with a threshold for tiles."""
    block = {"detector": str(DETECTOR), "images": str(walls / "normal"), "tiles": TILES, "value": 0.9}
    run_pipeline(project, "test", "calibration", runtime_params={"calibration": block})
    return next(project.glob("data/06_models/calibrated/*/normal-*/quantile_0.9_tiles_64_24/detector"))


@pytest.mark.long
def test_what_is_learnt_and_measured_are_tiles_and_those_of_an_image_stay_together(project):
    split = pd.read_csv(project / "data/03_primary/folder/wall_tiles_64_24/split.csv")
    images = split["id"].map(whole_name)
    assert split["split"].value_counts().to_dict() == {"train": 6 * 20, "validation": 2 * 20, "test": 4 * 20}
    assert split["split"].groupby(images).nunique().max() == 1
    assert images.value_counts().unique().tolist() == [PER_IMAGE]
    # Rows of tiles begin at 0, 29, 57, 86, columns at 0, 34, 68, ...: four tiles see what is torn, rows 20 to 35 and
    # columns 20 to 39.
    anomalous = split[split["label"] == 1]["id"]
    assert anomalous.tolist() == [
        f"test/torn/{number}.png#tile={top},{left}" for number in (0, 1) for top in (0, 29) for left in (0, 34)
    ]
    detector = kdad.detectors.load(project / DETECTOR)
    assert (detector.size, detector.record["training_images"], detector.record["validation_images"]) == (
        (64, 64),
        120,
        40,
    )
    assert len(detector.validation_scores) == 40


@pytest.mark.long
def test_whole_large_images_are_predicted_by_the_threshold_of_tiles(project, calibrated, walls):
    table = predict(project, walls / "wall/test", calibrated, tiles=TILES)
    detector = kdad.detectors.load(calibrated)
    (tiled,) = detector.tiled
    assert (tiled.size, tiled.overlap, len(tiled.scores)) == ((64, 64), 24, 9)
    assert tiled.threshold.value == max(tiled.scores)  # the ninth of nine: ceil(10 * 0.9)
    assert table["threshold"].to_numpy() == pytest.approx(tiled.threshold.value)
    decisions = {"good/0.png": 0, "good/1.png": 0, "torn/0.png": 1, "torn/1.png": 1}
    assert table["decision"].to_dict() == decisions
    said = json.loads((project / "predicted/metrics.json").read_text())
    assert (said["images"], said["unreadable"], said["image_auroc"]) == (4, 0, 1)
    with Image.open(project / "predicted" / table.loc["torn/0.png", "heat_map"]) as picture:
        assert picture.size == (WIDTH, HEIGHT)
    assert half_written(project) == []


@pytest.mark.long
def test_without_a_threshold_of_tiles_large_images_are_refused(project, walls):
    with pytest.raises(KedroCliError, match="the detector has no threshold for tiles of 64 x 64 with 24 pixels shared"):
        predict(project, walls / "wall/test", DETECTOR, tiles=TILES)
