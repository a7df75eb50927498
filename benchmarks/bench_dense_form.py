"""Describing every pixel of 256 x 256, p = 65, teacher and three students: dense passes against crops."""

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdad.networks.patch_descriptor import PatchDescriptor, pad_for

WIDTH = float(os.environ.get("KDAD_BENCH_WIDTH", "0.5"))
CROPS = 2048  # of 65,536


def dilated(network: PatchDescriptor, image: Tensor) -> Tensor:
    """Spread the kernels, pool at step 1: the form in use."""
    return network.dense(image)


def interleaved(network: PatchDescriptor, image: Tensor) -> Tensor:
    """Split into four shifted images at each pool, convolve them as a batch, weave them together at the end."""
    x = pad_for(image, network.patch_size) * 2 - 1
    pools = 0
    for layer in network.layers:
        if not isinstance(layer, torch.nn.MaxPool2d):
            x = layer(x)
            continue
        height, width = ((side - 1) // 2 for side in x.shape[-2:])
        x = torch.stack(
            [F.max_pool2d(x[..., i : i + 2 * height, j : j + 2 * width], 2) for i in (0, 1) for j in (0, 1)], 1
        )
        x, pools = x.flatten(0, 1), pools + 1
    for _ in range(pools):
        x = x.unflatten(0, (-1, 2, 2))  # (B, i, j, C, H, W)
        x = x.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    return x[..., : image.shape[-2], : image.shape[-1]]


def crops(network: PatchDescriptor, image: Tensor) -> Tensor:
    """Cut patches and describe each: what a dense pass replaces."""
    padded = pad_for(image, network.patch_size)
    patches = padded[0].unfold(1, 65, 1).unfold(2, 65, 1).permute(1, 2, 0, 3, 4)
    found = [network(patches[row, start : start + 256]) for row in range(CROPS // 256) for start in (0,)]
    return torch.cat(found)


def formats() -> dict:
    return {
        "float32": (torch.contiguous_format, False),
        "float32 channels-last": (torch.channels_last, False),
        "bfloat16": (torch.contiguous_format, True),
        "bfloat16 channels-last": (torch.channels_last, True),
    }


@pytest.mark.parametrize("form", [dilated, interleaved, crops], ids=lambda form: form.__name__)
@pytest.mark.parametrize("numbers", list(formats()))
@torch.no_grad()
def test_teacher_and_three_students(benchmark, form, numbers):
    memory_format, half = formats()[numbers]
    networks = [PatchDescriptor(65, 128, WIDTH, members).eval().to(memory_format=memory_format) for members in (1, 3)]
    image = torch.rand(1, 3, 256, 256).to(memory_format=memory_format)

    def run() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return [form(network, image) for network in networks]

    benchmark.extra_info["share of the image's pixels"] = CROPS / 65536 if form is crops else 1.0
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("size", [(256, 256), (72, 88)])
@torch.no_grad()
def test_forms_agree(size):
    network, image = PatchDescriptor(65, 16, 0.125).eval(), torch.rand(1, 3, *size)
    torch.testing.assert_close(interleaved(network, image), dilated(network, image), rtol=0, atol=1e-5)
