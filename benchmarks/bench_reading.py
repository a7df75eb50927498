"""Reading image files one by one, in threads and in worker processes, alone and beside a source's pass.

    python benchmarks/bench_reading.py

48 PNG files of 900 x 900 pixels, a photograph with a camera's noise, brought to 128 pixels.
"""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from kdad.compute import choose_compute, limit_threads
from kdad.images.image_set import ImageSet
from kdad.images.registry import open_image_set
from kdad.networks.weights import load_source
from kdad.parameters.dataset import DatasetParameters
from timing import in_turns

COUNT, SIDE, SIZE, _BATCH = 48, 900, 128, 16


def write_files(folder: Path) -> ImageSet:
    """Write the files, and return them as an image set."""
    generator = np.random.default_rng(0)
    photograph = Image.fromarray(data.astronaut()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(photograph).astype(int)
    for part, count in (("train", COUNT - 1), ("test", 1)):
        place = folder / "part" / part / "good"
        place.mkdir(parents=True)
        for number in range(count):
            noisy = (pixels + generator.integers(-2, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(place / f"{number:02d}.png")
    return open_image_set(DatasetParameters(name="folder", root=str(folder), category="part", image_size=SIZE))


def measure() -> dict[str, float]:
    """Return the seconds of each way."""
    rows = np.arange(COUNT)
    compute = choose_compute("cpu")
    source = compute.place(load_source("efficientnet_lite0", "random"))
    threads = torch.get_num_threads()

    def see(images) -> None:
        while batch := list(islice(images, _BATCH)):
            with torch.no_grad(), compute.autocast():
                source(compute.move(torch.from_numpy(np.stack(batch))))

    with tempfile.TemporaryDirectory() as folder:
        images = write_files(Path(folder))
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(threads, context, torch.set_num_threads, (1,)) as processes:
            return in_turns(
                {
                    "one by one": lambda: list(map(images.image, rows)),
                    "threads": lambda: list(images.images_of(rows)),
                    "processes": lambda: list(processes.map(images.image, rows, chunksize=4)),
                    "source, one by one": lambda: see(map(images.image, rows)),
                    "source, threads": lambda: see(images.images_of(rows, _BATCH)),
                },
                rounds=3,
            )


if __name__ == "__main__":
    limit_threads(None)
    for name, seconds in measure().items():
        print(f"{name}: {1e3 * seconds / COUNT:.1f} ms an image")
