"""One training step from cached activations against the published recipe, and the source's forward pass by format.

The published recipe runs the source, with autograd on and in float32, on every batch of every epoch. The two are timed
in turns in one process, so that a busy machine slows both; the ratio is in ``extra_info``.
"""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cloner_step import new_cloner, training_step
from kdad.compute import Compute, choose_compute
from kdad.detectors.reverse_distillation.detector import ReverseStudent, reverse_loss
from kdad.features.cache import open_cache, write_cache
from kdad.networks.weights import load_source

_BATCHES = [(64, 32), (16, 128)]  # images, side in pixels


def _published_step(count: int, side: int):
    source, compute = load_source("vgg16", "random").requires_grad_(True), Compute(torch.device("cpu"), torch.float32)
    cloner = new_cloner("vgg16", source.describe((side, side)), side, compute)
    images = torch.rand(count, 3, side, side)
    return training_step(cloner, compute, lambda: images, lambda: source(images))


def _cached_step(count: int, side: int, folder: Path):
    compute = choose_compute("cpu")
    source = load_source("vgg16", "random")
    points = source.describe((side, side))
    images = torch.rand(count, 3, side, side)
    manifest = {**compute.describe(), "image_size": [side, side], "count": count}
    with torch.no_grad():
        batches = iter([(images.numpy(), source(images))])
    write_cache(folder, manifest, points, batches, {})
    cache, rows = open_cache(folder), np.arange(count)
    return training_step(
        new_cloner("vgg16", points, side, compute),
        compute,
        lambda: compute.move(cache.images(rows)),
        lambda: [compute.move(activation) for activation in cache.outputs(rows)],
    )


@pytest.mark.parametrize(("count", "side"), _BATCHES)
def test_cached_step_against_the_published_recipe(benchmark, tmp_path, count, side):
    published, cached = _published_step(count, side), _cached_step(count, side, tmp_path)
    ratios, seconds = [], {"published": [], "cached": []}
    for step in (published, cached):
        step()
    for _ in range(5):
        for name, step, repeats in (("published", published, 1), ("cached", cached, 3)):
            started = time.perf_counter()
            for _ in range(repeats):
                step()
            seconds[name].append((time.perf_counter() - started) / repeats)
        ratios.append(seconds["published"][-1] / seconds["cached"][-1])
    benchmark.extra_info["times as fast"] = round(float(np.median(ratios)), 1)
    benchmark.extra_info["published, seconds"] = round(float(np.median(seconds["published"])), 3)
    benchmark.pedantic(cached, rounds=5)
    print(f"\n{count} images of {side} px: {benchmark.extra_info}")


@pytest.mark.parametrize("network", ["efficientnet_lite0", "timm:wide_resnet50_2"])
def test_reverse_distillation_from_the_cache_against_a_source_pass_each_step(benchmark, network):
    """Sixteen images of 256 px: the shipped step on Lite0 against float32 steps that run `network` on each batch.

    The published recipe is that of ``wide_resnet50_2``, with a wider decoder than the one here.
    """
    compute, images = choose_compute("cpu"), torch.rand(16, 3, 256, 256)
    source = load_source(network, "random").requires_grad_(False).eval()
    lite = load_source("efficientnet_lite0", "random").requires_grad_(False).eval()

    def step_of(frozen, form: Compute, outputs):
        student = form.place(ReverseStudent(frozen.describe((256, 256))[:3])).train()
        optimiser = torch.optim.Adam(student.parameters())

        def step() -> None:
            maps = [form.move(one) for one in outputs()]
            with form.autocast():
                loss = reverse_loss(maps, student(maps), "both").mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        return step

    with torch.no_grad():
        kept = [one.to(compute.dtype) for one in lite(images)[:3]]
    plain = Compute(torch.device("cpu"), torch.float32)
    steps = {
        "published": step_of(source, plain, lambda: source(images)[:3]),
        "cached": step_of(lite, compute, lambda: kept),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(4):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    medians = {name: float(np.median(of[1:])) for name, of in seconds.items()}
    benchmark.extra_info |= {**medians, "times as fast": medians["published"] / medians["cached"]}
    benchmark.pedantic(steps["cached"], rounds=2)
    print(f"\n{network}: {benchmark.extra_info}")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_source_forward_by_format(benchmark, precision, layout):
    compute = Compute(torch.device("cpu"), getattr(torch, precision))
    memory = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    source = load_source("vgg16", "random").to(memory_format=memory)
    images = torch.rand(16, 3, 128, 128).to(memory_format=memory)

    def forward() -> None:
        with torch.no_grad(), compute.autocast():
            source(images)

    benchmark.pedantic(forward, rounds=5, warmup_rounds=1)
