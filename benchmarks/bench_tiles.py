"""Peak resident memory and time of inference by tiles on images of 12 megapixels.

``python benchmarks/bench_tiles.py [FOLDER]`` trains MKD on tiles of 256 pixels, sets a threshold for such tiles on
normal images of 4,000 x 3,000, and predicts two, one of which has holes, each step in a process of its own; it prints a
row of Markdown for each. Results stay in FOLDER, if it is given.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage import data

PROJECT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 3000, 4000
NORMAL = 4
HOLES = 12
TRAINING, SMALLER = 4, (700, 900)


def main(place: Path) -> None:
    """Print what training, calibration and inference took."""
    project = place / "project"
    shutil.copytree(PROJECT / "conf", project / "conf")
    shutil.copy(PROJECT / "pyproject.toml", project)
    (project / "src").mkdir()  # Kedro wants it to be there; the installed package is used
    for number in range(TRAINING):
        _write(place / f"walls/wall/train/good/{number}.png", 100 + number, SMALLER)
    _write(place / "walls/wall/test/good/0.png", 200, SMALLER)
    for number in range(NORMAL):
        _write(place / f"normal/{number}.png", number)
    _write(place / "predicted/holes.png", NORMAL, holes=HOLES)
    _write(place / "predicted/normal.png", NORMAL + 1)
    print("| what | peak memory, MB | seconds in all | of the processor | seconds an image |\n|---|---|---|---|---|")
    dataset = f"dataset.name=folder,dataset.root={place / 'walls'},dataset.category=wall,dataset.image_size=256"
    _row(f"training on tiles of {TRAINING} images", project, "mkd", f"{dataset},{_tiles('dataset')}")
    calibrated = place / "calibrated"
    wanted = f"calibration.images={place / 'normal'},calibration.value=0.5,calibration.output={calibrated}"
    _row(f"calibration on {NORMAL} images", project, "calibration", f"{wanted},{_tiles('calibration')}")
    detector = f"inference.detector={calibrated / 'detector'},inference.images={place / 'predicted'}"
    for what, more in (
        ("inference, heat maps", ""),
        ("inference, no heat maps", ",inference.heat_maps=false"),
        ("inference, 32 tiles at once", ",inference.batch_size=32"),
    ):
        output = place / what
        given = f"{detector},inference.output={output},{_tiles('inference')}{more}"
        _row(what, project, "inference", given, output / "predictions.csv")


def _tiles(block: str) -> str:
    return f"{block}.tiles={{size: 256, overlap: 64}}"


def _write(path: Path, seed: int, size: tuple[int, int] = (HEIGHT, WIDTH), holes: int = 0) -> None:
    """Write an image of a brick wall: a photograph, mirrored from copy to copy, with noise; holes are bright discs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    brick = np.concatenate([data.brick(), data.brick()[:, ::-1]], 1)
    brick = np.concatenate([brick, brick[::-1]], 0)
    wall = np.tile(brick, (4, 5))
    height, width = size
    top, left = generator.integers(0, 512, 2)
    wall = wall[top : top + height, left : left + width].astype(np.int16)
    wall = wall + generator.integers(-3, 4, wall.shape, dtype=np.int16)
    rows, columns = np.ogrid[:height, :width]
    for _ in range(holes):
        y, x, radius = generator.integers([60, 60, 10], [height - 60, width - 60, 40])
        wall[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 230
    Image.fromarray(np.repeat(wall.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)).save(path, compress_level=1)


def _row(what: str, project: Path, pipeline: str, parameters: str, table: Path | None = None) -> None:
    environment = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "kedro", "run", "--env=test", f"--pipelines={pipeline}", f"--params={parameters}"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    computed = usage.ru_utime + usage.ru_stime
    each = "" if table is None else f"{pd.read_csv(table)['milliseconds'].mean() / 1000:.1f}"
    print(f"| {what} | {peak:.0f} | {seconds:.0f} | {computed:.0f} | {each} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
