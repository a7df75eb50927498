"""Memory and time of pixel metrics over many test images, each count in a process of its own.

    python benchmarks/bench_measuring_memory.py

Maps of 128 x 128 lie in a file, as a run leaves them; every tenth image has a defect of a hundredth of its pixels.
Memory is the most that is the process's own, without what is mapped from files.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kdad.storage.disk_space import zeros
from timing import run_process

_COUNTS, _SIDE = (1000, 5000, 20000), 128


def write_maps(file: Path, count: int) -> None:
    """Write maps of noise with brighter defects."""
    generator = np.random.default_rng(0)
    maps = np.lib.format.open_memmap(file, "w+", np.float32, (count, _SIDE, _SIDE))
    for number in range(count):
        maps[number] = generator.random((_SIDE, _SIDE), np.float32)
        maps[number][masked(number)] += 0.5


def masked(number: int) -> np.ndarray:
    """Return the mask of one image."""
    mask = np.zeros((_SIDE, _SIDE), dtype=bool)
    if number % 10 == 0:
        mask[40:53, 40:53] = True
    return mask


def measure(file: Path) -> None:
    """Measure as a run does, and print seconds."""
    from kdad.metrics.pixel_ranking import pixel_auroc, pro_curve, rank_pixels

    maps = np.load(file, mmap_mode="r")
    masks = zeros(maps.shape, bool)
    for number in range(0, len(maps), 10):
        masks[number] = masked(number)
    began = time.perf_counter()
    ranking = rank_pixels(masks, maps)
    found = [pixel_auroc(ranking), pro_curve(ranking).area]
    print(json.dumps({"seconds": time.perf_counter() - began, "values": found}))


def main() -> None:
    """Print a line for each count of images."""
    for count in _COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "maps.npy"
            subprocess.run([sys.executable, __file__, "write", str(file), str(count)], check=True)
            done = run_process([sys.executable, __file__, "measure", str(file)], Path(folder))
        print(f"{count} images: {done.seconds:.1f} s, {done.own_gigabytes:.2f} GB of its own", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", file, count]:
            write_maps(Path(file), int(count))
        case ["measure", file]:
            measure(Path(file))
        case _:
            main()
