"""Training steps and passes with malloc as it is, and with freed memory kept, in turns.

    python benchmarks/bench_freed_memory.py

As it is means the largest thresholds that glibc comes to by itself: blocks of 32 MB, and 64 MB at the end of the heap.
"""

import ctypes
import resource
from collections.abc import Callable

import torch

from cloner_step import new_cloner, training_step
from kdad.compute import FREE_AT_END, LARGEST_KEPT, MMAP_THRESHOLD, TRIM_THRESHOLD, choose_compute, limit_threads
from kdad.networks.weights import load_source
from timing import in_turns, machine

_STEPS = (("efficientnet_lite0", 16, 128), ("efficientnet_lite0", 64, 128), ("vgg16", 16, 128), ("vgg16", 16, 256))
_PASSES = (("efficientnet_lite0", 16, 128), ("vgg16", 16, 128))


def step_of(name: str, count: int, side: int) -> Callable[[], None]:
    """Return a step of a small cloner that learns a source's activations of so many images."""
    compute, source = choose_compute("cpu"), load_source(name, "random")
    cloner = new_cloner(name, source.describe((side, side)), side, compute)
    images = compute.move(torch.rand(count, 3, side, side))
    with torch.no_grad():
        targets = [torch.rand_like(found).float() for found in cloner(images)]
    return training_step(cloner, compute, lambda: images, lambda: targets)


def source_pass(name: str, count: int, side: int) -> Callable[[], None]:
    """Return a pass of a source over so many images."""
    compute = choose_compute("cpu")
    source, images = compute.place(load_source(name, "random")), compute.move(torch.rand(count, 3, side, side))

    def run() -> None:
        with torch.no_grad(), compute.autocast():
            source(images)

    return run


def with_thresholds(work: Callable[[], None], one: int, free: int) -> Callable[[], None]:
    """Return `work` behind these thresholds of malloc, three times: the first one finds the heap's size."""
    set_option = ctypes.CDLL(None).mallopt

    def act() -> None:
        set_option(MMAP_THRESHOLD, one)
        set_option(TRIM_THRESHOLD, free)
        for _ in range(3):
            work()

    return act


def faults(work: Callable[[], None]) -> int:
    """Return how many pages `work` fetches from the system."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


if __name__ == "__main__":
    limit_threads(None)
    print(machine())
    works = {
        f"training step, {name}, {count} images of {side} px": (step_of, name, count, side)
        for name, count, side in _STEPS
    }
    works |= {
        f"pass, {name}, {count} images of {side} px": (source_pass, name, count, side) for name, count, side in _PASSES
    }
    for what, (make, *given) in works.items():
        work = make(*given)
        as_it_is, kept = with_thresholds(work, 1 << 25, 1 << 26), with_thresholds(work, LARGEST_KEPT, FREE_AT_END)
        found = in_turns({"as it is": as_it_is, "kept": kept}, rounds=9)
        before, after = (1000 * seconds / 3 for seconds in found.values())
        print(
            f"{what}: {before:.1f} ms, with freed memory kept {after:.1f} ms ({before / after:.2f} times as fast); "
            f"pages fetched in three: {faults(as_it_is):,} and {faults(kept):,}"
        )
