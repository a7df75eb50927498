"""Projects with a trained detector, and folders of images for it, for tests of what is done with it afterwards."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image
from skimage import data

from projects import copy_project, run_pipeline

DETECTOR = Path("data/06_models/folder/brick/stfpm/detector")
REPORT = Path("data/08_reporting/folder/brick/stfpm")
SIDE = 64


def write_crop(path: Path, seed: int, height: int = SIDE, width: int = SIDE, torn: bool = False) -> None:
    """Write a crop of a photograph of bricks, with a spot of inverted brightness where it is torn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    top, left = np.random.default_rng(seed).integers(0, [512 - height, 512 - width])
    crop = data.brick()[top : top + height, left : left + width].copy()
    if torn:
        crop[20:36, 20:40] = 255 - crop[20:36, 20:40]
    Image.fromarray(crop).save(path)


def write_bricks(root: Path) -> Path:
    """Write a category of 20 images to train on, 6 good and 6 torn ones with masks to test; return its folder."""
    base, numbers = root / "brick", iter(range(100))
    for folder, count in (("train/good", 20), ("test/good", 6), ("test/torn", 6)):
        for number in range(count):
            write_crop(base / folder / f"{number:03}.png", next(numbers), torn=folder == "test/torn")
    write_masks(base, [f"{number:03}" for number in range(6)], (SIDE, SIDE))
    return base


def write_masks(base: Path, names: list[str], size: tuple[int, int]) -> None:
    """Write the masks of torn test images of a category, white in rows 20 to 35, columns 20 to 39."""
    mask = np.zeros(size, np.uint8)
    mask[20:36, 20:40] = 255
    (base / "ground_truth/torn").mkdir(parents=True)
    for name in names:
        Image.fromarray(mask).save(base / f"ground_truth/torn/{name}_mask.png")


def train_on_bricks(folder: Path, database: Path) -> Path:
    """Make a project in `folder` with images in ``pictures/brick`` and a detector trained on them; return it.

    The first test that asks trains it, for all workers of this session: the others get copies, whose older runs lie
    where they were made.
    """
    # Workers have folders beside each other; alone, a session has one.
    session = database.parents[1] if "popen-gw" not in database.parents[1].name else database.parents[2]
    with FileLock(session / "trained on bricks.lock"):
        trained = session / "trained on bricks"
        if not trained.exists():
            _train(trained, database)
    return Path(shutil.copytree(trained, folder, dirs_exist_ok=True))


def _train(folder: Path, database: Path) -> Path:
    project = copy_project(folder, database)
    write_bricks(project / "pictures")
    dataset = {"name": "folder", "root": str(project / "pictures"), "category": "brick", "validation_fraction": 0.4}
    run_pipeline(project, "test", "stfpm", runtime_params={"dataset": dataset})
    return project


def predict(project: Path, images: Path, detector: Path | str = DETECTOR, **block) -> pd.DataFrame:
    """Run the pipeline `inference` and return the table that it left, by the images' paths."""
    output = block.setdefault("output", str(project / "predicted"))
    wanted = {"images": str(images), "detector": str(detector), **block}
    run_pipeline(project, "test", "inference", runtime_params={"inference": wanted})
    return read_predictions(Path(output))


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read the table of predictions in `folder`, by the images' paths."""
    return pd.read_csv(folder / "predictions.csv").set_index("path")


@contextmanager
def nothing_new(*folders: Path) -> Iterator[None]:
    """Check that the block changes no file below `folders` and adds none; runs may be logged, places locked."""
    before = _content(*folders)
    yield
    assert _content(*folders) == before


def _content(*folders: Path) -> dict[Path, bytes]:
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found = [path for path in found if not {"mlruns", ".locks"} & set(path.parts)]
    return {path: path.read_bytes() for path in found if not path.name.startswith("mlflow.db")}
