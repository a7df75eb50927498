"""Peak resident memory of inference over few and over many images, each in a process of its own.

``python benchmarks/bench_inference_memory.py [FEW MANY]`` trains a small detector, then scores 200 and 2,000 images of
512 pixels, and prints both peaks and their ratio; of a reading that streams the ratio is about 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
SIDE = 512
_DIFFERENT = 50  # files beyond these are further names of the same


def main(counts: list[int]) -> None:
    """Print peak memory and speed for each count, and the ratio of the last peak to the first."""
    with tempfile.TemporaryDirectory() as folder:
        project = _copy_project(Path(folder) / "project")
        _run(project, "--env=test", "--pipeline=stfpm")
        peaks = []
        for count in counts:
            images = _write_images(Path(folder) / f"{count} images", count)
            started = time.perf_counter()
            peak = _run(project, "--env=test", "--pipeline=inference", "--params", f"inference.images={images}")
            seconds = time.perf_counter() - started
            peaks.append(peak)
            print(f"{count} images of {SIDE} x {SIDE}: peak {peak:.0f} MB, {seconds:.0f} s in all", flush=True)
            shutil.rmtree(images)
        print(f"ratio {peaks[-1] / peaks[0]:.3f}")


def _copy_project(folder: Path) -> Path:
    shutil.copytree(PROJECT / "conf", folder / "conf")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    (folder / "src").mkdir()  # Kedro wants it to be there; the installed package is used
    return folder


def _write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:05}.png"
        if number < _DIFFERENT:
            small = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            small.resize((SIDE, SIDE)).save(path)
        else:
            os.link(folder / f"{number % _DIFFERENT:05}.png", path)
    return folder


def _run(project: Path, *arguments: str) -> float:
    """Run Kedro; return the peak resident memory of its process in MB."""
    environment = {**os.environ, "KEDRO_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "kedro", "run", *arguments]
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [200, 2000])
