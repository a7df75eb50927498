"""Three students trained together against one after another: the same images, teacher, losses and steps."""

import copy
import time

import numpy as np
import pytest
import torch
from torch import nn

from kdad.compute import choose_compute
from kdad.detectors.uninformed_students.students import student_errors
from kdad.networks.patch_descriptor import PatchDescriptor, StudentEnsemble

MEMBERS, STEPS, ROUNDS = 3, 4, 4


class GroupedEnsemble(nn.Module):
    """The members as groups of one network's convolutions: the vectorised form that was tried."""

    def __init__(self, members: int, patch_size: int, width: float) -> None:
        super().__init__()
        self.count, self.network = members, PatchDescriptor(patch_size, 128, width)
        first = True
        for index, layer in enumerate(self.network.layers):
            if isinstance(layer, nn.Conv2d):
                inputs = layer.in_channels * (1 if first else members)
                grouped = nn.Conv2d(
                    inputs, layer.out_channels * members, layer.kernel_size, groups=1 if first else members
                )
                self.network.layers[index], first = grouped, False

    def dense(self, images: torch.Tensor, stride: int) -> torch.Tensor:
        layers = list(self.network.layers)
        x = nn.functional.pad(images * 2 - 1, (self.network.patch_size // 2,) * 4, mode="reflect")
        x = x[
            ...,
            : images.shape[-2] + self.network.patch_size - stride,
            : images.shape[-1] + self.network.patch_size - stride,
        ]
        step = 1
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and layer is layers[-1]:
                x = nn.functional.conv2d(x, layer.weight, layer.bias, stride // step, groups=self.count)
            else:
                x = layer(x)
                step *= 2 if isinstance(layer, nn.MaxPool2d) else 1
        return x.unflatten(1, (self.count, 128))


def _teach(teacher, images, stride, compute):
    with torch.no_grad(), compute.autocast():
        return teacher.dense(images, stride).float()


def _step(network, optimiser, images, targets, stride, compute) -> list[float]:
    with compute.autocast():
        found = network.dense(images, stride)
    errors = student_errors(found.float(), targets).mean(dim=0)
    optimiser.zero_grad(set_to_none=True)
    errors.sum().backward()
    optimiser.step()
    return errors.tolist()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(("patch_size", "size", "batch", "width"), [(33, 128, 4, 0.25), (33, 256, 1, 1.0)])
def test_together_against_apart(benchmark, patch_size, size, batch, width, precision):
    compute, stride = choose_compute("cpu", precision), 4
    teacher = compute.place(PatchDescriptor(patch_size, 128, width)).eval()
    start = compute.place(StudentEnsemble(MEMBERS, patch_size, 128, width, seed=0))
    grouped = compute.place(GroupedEnsemble(MEMBERS, patch_size, width))
    batches = [compute.move(torch.rand(batch, 3, size, size)) for _ in range(STEPS)]

    def together(network) -> list[float]:
        optimiser = torch.optim.Adam(network.parameters(), 1e-4)
        for images in batches:
            losses = _step(network, optimiser, images, _teach(teacher, images, stride, compute), stride, compute)
        return losses

    def apart(network) -> list[float]:
        losses = []
        for member in network.members:
            alone = StudentEnsemble(1, patch_size, 128, width, seed=0)
            alone.members[0] = member
            losses += together(alone)
        return losses

    seconds: dict[str, list[float]] = {"together": [], "apart": [], "grouped": []}
    for _ in range(ROUNDS):  # alternating, because the machine's speed drifts
        for name, run, network in (
            ("together", together, start),
            ("apart", apart, start),
            ("grouped", together, grouped),
        ):
            copied = copy.deepcopy(network)
            begun = time.perf_counter()
            losses = run(copied)
            seconds[name].append(time.perf_counter() - begun)
            if name == "together":
                expected = losses
            elif name == "apart":
                np.testing.assert_allclose(losses, expected, rtol=2e-2 if precision == "bfloat16" else 1e-4)
    best = {name: min(times) for name, times in seconds.items()}
    benchmark.extra_info |= {name: round(value / STEPS, 4) for name, value in best.items()}
    benchmark.extra_info["apart / together"] = round(best["apart"] / best["together"], 2)
    print(patch_size, size, width, precision, benchmark.extra_info)
    benchmark.pedantic(lambda: None)
