"""How time and memory grow with images, image size, variants and workers."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench_ablation import plan_of
from kdad.compute import choose_compute
from kdad.experiments.plan import plan_ablation
from kdad.networks.weights import load_source
from timing import Finished, fresh_project, in_turns, run_process

_TEXTURES = "dataset.textures.validation_images=20,dataset.textures.test_normal=10,dataset.textures.test_per_defect=2"


@dataclass(frozen=True)
class Point:
    """A point of a curve."""

    x: float
    y: float


Curve = tuple[str, str, dict[str, list[Point]]]


def curves(images: tuple[int, ...], workers: tuple[int, ...]) -> Iterator[Curve]:
    """Yield each figure: its title, what is varied, and its lines."""
    found = {count: _run(count) for count in images}
    lines = {
        "seconds": [Point(count, one.seconds) for count, one in found.items()],
        "GB of its own": [Point(count, one.own_gigabytes) for count, one in found.items()],
        "GB with mapped files": [Point(count, one.gigabytes) for count, one in found.items()],
    }
    yield "a whole run of mkd, 32 px, one epoch", "training images", lines
    yield "source's pass, milliseconds an image", "pixels a side", dict(_passes())
    yield "plan and pipeline of an ablation, seconds", "variants", {"seconds": list(_plans())}
    if workers:
        yield "mkd_ablation on Dask workers of a thread, seconds", "workers", {"seconds": list(_on_workers(workers))}


def _run(count: int) -> Finished:
    given = f"dataset.image_size=32,dataset.textures.train_images={count},{_TEXTURES},cloner.training.epochs=1"
    return _kedro("--env=test", f"--params={given},scoring.localisation=discrepancy")


def _kedro(*options: str) -> Finished:
    with tempfile.TemporaryDirectory() as folder:
        project = fresh_project(Path(folder))
        return run_process([sys.executable, "-m", "kedro", "run", *options], project)


def _passes() -> Iterator[tuple[str, list[Point]]]:
    compute = choose_compute("cpu")
    for name in ("efficientnet_lite0", "vgg16"):
        source, points = compute.place(load_source(name, "random")), []
        for side in (32, 64, 128, 256):
            batch = compute.move(torch.rand(8, 3, side, side))

            @torch.no_grad()
            def forward(batch=batch, source=source) -> None:
                with compute.autocast():
                    source(batch)

            points.append(Point(side, 1e3 * in_turns({"pass": forward}, rounds=5)["pass"] / len(batch)))
        yield name, points


def _plans() -> Iterator[Point]:
    for count in (30, 300, 3000):
        parameters = plan_of(count)
        work = lambda given=parameters: plan_ablation(given, "mkd_ablation")  # noqa: E731
        yield Point(count, in_turns({"plan": work}, rounds=1)["plan"])


def _on_workers(workers: tuple[int, ...]) -> Iterator[Point]:
    given = f"mkd_ablation.axes=loss_terms,mkd_ablation.seeds=0 1 2,{_TEXTURES}"
    for count in workers:
        workers = f"workers.count={count},workers.threads=1"
        finished = _kedro("--env=test", "--pipelines=mkd_ablation", f"--params={given},{workers}")
        yield Point(count, finished.seconds)
