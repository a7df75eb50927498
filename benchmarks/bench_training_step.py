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
