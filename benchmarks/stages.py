"""Every stage against what it replaces, what else could be taken, and the machine's ceiling."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import bench_reading
from bench_dense_form import crops
from bench_region_overlap import make_stack, pro_by_thresholds
from bench_training_step import _cached_step, _published_step
from kdad import detectors
from kdad.compute import choose_compute
from kdad.detectors.detector import Detector
from kdad.detectors.learnt import count_flops
from kdad.detectors.uninformed_students.students import student_errors
from kdad.features.cache import open_cache, write_cache
from kdad.metrics.pixel_ranking import pro_curve, rank_pixels
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble
from kdad.networks.source import CriticalPoint
from kdad.networks.weights import load_source
from timing import Ceiling, in_turns

_METHODS = ("discrepancy", "gradients", "guided_backprop", "smooth_grad", "integrated_gradients")
_PIXELS_OF_CROPS = 256 * 256 / 2048  # `crops` describes so many at a time


@dataclass(frozen=True)
class Stage:
    """A stage: milliseconds, what of, the milliseconds of what it is compared with, and a share of the ceiling."""

    name: str
    milliseconds: float
    compared_with: str = ""
    other_milliseconds: float | None = None
    ceiling: str = ""


def stages(ceiling: Ceiling, detector: Path) -> Iterator[Stage]:
    """Yield every stage; `detector` is a folder that an end-to-end run has left."""
    yield from training_step()
    yield from reading()
    yield from source_forward(ceiling)
    yield from dense_descriptors()
    yield ensemble_step()
    yield from cache_reading(ceiling)
    yield region_overlap()
    yield from maps_by_method(detectors.load(detector))


def training_step() -> Iterator[Stage]:
    """A step of the cloner from cached activations, against the published recipe."""
    for count, side in ((64, 32), (16, 128)):
        with tempfile.TemporaryDirectory() as folder:
            works = {"cached": _cached_step(count, side, Path(folder)), "published": _published_step(count, side)}
            found = in_turns(works, rounds=5)
        title = f"training step of MKD, VGG-16, {count} images of {side} px"
        yield Stage(title, 1e3 * found["cached"], "the published recipe", 1e3 * found["published"])


def reading() -> Iterator[Stage]:
    """Large files in threads, against one by one and worker processes, and what a source's pass gains."""
    found = {name: 1e3 * seconds / bench_reading.COUNT for name, seconds in bench_reading.measure().items()}
    title = f"reading a PNG file of {bench_reading.SIDE} px to {bench_reading.SIZE} px, in threads"
    yield Stage(title, found["threads"], "one by one", found["one by one"])
    yield Stage(title, found["threads"], "in worker processes", found["processes"])
    title = "efficientnet_lite0's pass over such files, an image, read ahead"
    share = found["one by one"] / found["source, one by one"]
    yield Stage(title, found["source, threads"], f"read in between ({share:.0%} of it)", found["source, one by one"])


def source_forward(ceiling: Ceiling) -> Iterator[Stage]:
    """The source's pass as it is used, against float32 as torch has it by default; operations against the ceiling."""
    for name in ("vgg16", "efficientnet_lite0"):
        images = torch.rand(16, 3, 128, 128)
        compute, plain = choose_compute("cpu"), load_source(name, "random")
        used = compute.place(load_source(name, "random"))
        moved = compute.move(images)

        @torch.no_grad()
        def forward(source=used, given=moved, compute=compute) -> None:
            with compute.autocast():
                source(given)

        @torch.no_grad()
        def default(source=plain, given=images) -> None:
            source(given)

        found = in_turns({"used": forward, "default": default}, rounds=7)
        kind = compute.describe()["dtype"]
        share = count_flops(lambda: default()) / found["used"] / ceiling.operations[kind]
        yield Stage(
            f"{name}'s pass, 16 images of 128 px, {kind}, channels-last",
            *(1e3 * found["used"], "float32, contiguous", 1e3 * found["default"]),
            f"{share:.0%} of a matrix product in {kind}",
        )


def dense_descriptors() -> Iterator[Stage]:
    """A teacher at every fourth and at every pixel of an image, against crops."""
    compute = choose_compute("cpu")
    network = compute.place(PatchDescriptor(65, 128, 0.5)).eval()
    image = compute.move(torch.rand(1, 3, 256, 256))

    def run(work) -> None:
        with torch.no_grad(), compute.autocast():
            work()

    found = in_turns({"dense": lambda: run(lambda: network.dense(image))}, rounds=3)
    cropped = in_turns({"crops": lambda: run(lambda: crops(network, image))}, rounds=1)["crops"] * _PIXELS_OF_CROPS
    title = "descriptors of every pixel of 256 x 256, p = 65, width 0.5"
    yield Stage(title, 1e3 * found["dense"], "cropped patches, extrapolated", 1e3 * cropped)
    every_fourth = in_turns({"dense": lambda: run(lambda: network.dense(image, 4))}, rounds=3)
    yield Stage(title.replace("every pixel", "every fourth pixel"), 1e3 * every_fourth["dense"])


def ensemble_step() -> Stage:
    """A training step of three students together, against one after another."""
    compute = choose_compute("cpu")
    teacher = compute.place(PatchDescriptor(33, 128, 0.25)).eval()
    images = compute.move(torch.rand(4, 3, 128, 128))
    ensembles = {"together": [compute.place(StudentEnsemble(3, 33, 128, 0.25, seed=0))]}
    ensembles["apart"] = [compute.place(StudentEnsemble(1, 33, 128, 0.25, seed=seed)) for seed in range(3)]

    def step(members) -> None:
        for network in members:
            with torch.no_grad(), compute.autocast():
                targets = teacher.dense(images, 4).float()
            with compute.autocast():
                predictions = network.dense(images, 4)
            network.zero_grad(set_to_none=True)
            student_errors(predictions.float(), targets).mean(dim=0).sum().backward()

    found = in_turns({name: lambda members=members: step(members) for name, members in ensembles.items()}, rounds=5)
    return Stage(
        "gradients of 3 students, p = 33, 4 images of 128 px",
        *(1e3 * found["together"], "one after another", 1e3 * found["apart"]),
    )


def cache_reading(ceiling: Ceiling) -> Iterator[Stage]:
    """A shuffled batch of activations from the map on the disk (in memory by now), against a copy of as many bytes."""
    points = [CriticalPoint("pool2", 128, 32, 32, False), CriticalPoint("pool3", 256, 16, 16, False)]
    manifest = {"device": "cpu", "dtype": "bfloat16", "image_size": [128, 128], "count": 256}
    with tempfile.TemporaryDirectory() as folder:
        images = np.zeros((256, 3, 128, 128), np.float32)
        outputs = [torch.rand(256, point.channels, point.height, point.width) for point in points]
        write_cache(Path(folder), manifest, points, iter([(images, outputs)]), {})
        cache, rows = open_cache(Path(folder)), np.random.default_rng(0).permutation(256)[:32]
        found = in_turns({"read": lambda: (cache.outputs(rows), cache.images(rows))})["read"]
    size = 32 * (sum(point.values for point in points) * 4 + 3 * 128 * 128 * 4)
    copied = 2 * size / ceiling.bytes
    yield Stage(
        f"reading 32 images' activations and pixels ({size / 1e6:.0f} MB as float32)",
        *(1e3 * found, "a copy of as many bytes", 1e3 * copied, f"{copied / found:.0%} of memory's bandwidth"),
    )


def region_overlap() -> Stage:
    """Exact PRO, against the definition."""
    masks, maps = make_stack(4, 64)
    found = in_turns({"exact": lambda: pro_curve(rank_pixels(masks, maps)).area}, rounds=5)["exact"]
    other = in_turns({"loop": lambda: pro_by_thresholds(masks, maps)}, rounds=1)["loop"]
    return Stage("exact PRO, 4 maps of 64 x 64", 1e3 * found, "a loop over thresholds", 1e3 * other)


def maps_by_method(detector: Detector) -> Iterator[Stage]:
    """Predicting an image, and each map of it."""
    size = detector.size
    image = (255 * np.random.default_rng(0).random((*size, 3))).astype(np.uint8)
    found = in_turns({"predict": lambda: detector.predict(image)}, rounds=15)["predict"]
    yield Stage(f"predicting an image of {size[0]} px: score, decision, map", 1e3 * found)
    images = torch.rand(8, 3, *size)
    outputs = detector.outputs(images)
    for method in (name for name in _METHODS if name in detector.methods):
        seconds = in_turns({method: lambda name=method: detector.maps(images, outputs, [name])}, rounds=3)[method]
        yield Stage(f"map by {method.replace('_', ' ')}, an image, source apart", 1e3 * seconds / len(images))
