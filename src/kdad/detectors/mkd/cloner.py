"""The cloner: a small network that learns the source's activations at its critical points, and its training."""

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.mkd.discrepancy import discrepancy_terms
from kdad.detectors.mkd.parameters import ArchitectureParameters, ClonerParameters
from kdad.errors import InputError
from kdad.features.extraction import FeatureSet
from kdad.networks.source import CriticalPoint, build_source
from kdad.training.loop import CheckpointFile, TrainingTask, train

if TYPE_CHECKING:
    import pandas as pd


_VGG16_WIDTHS = [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3]


class _Stage(NamedTuple):
    """One block: whether it halves the resolution, how odd sides are rounded, and the critical point at its end."""

    pools: bool
    rounds_up: bool
    point: CriticalPoint | None


class Cloner(nn.Module):
    """Blocks of 3 x 3 convolutions, a max-pool after each, as published (Salehi et al. 2021, section 3 and code).

    Convolutions have no bias and are Xavier-initialised; BatchNorm and ReLU follow each but the last of a block, which
    has a ReLU only - and not even that where the source's activations can be negative. Images come in [0, 1].
    """

    def __init__(self, widths: Sequence[Sequence[int]], points: Sequence[CriticalPoint], size: tuple[int, int]) -> None:
        super().__init__()
        plan, self.size = _pooling_plan(points, size)
        if len(widths) != len(plan):
            raise InputError(f"cloner.widths has {len(widths)} blocks; these critical points need {len(plan)}")
        blocks, channels = [], 3
        for index, (block, (pools, rounds_up, point)) in enumerate(zip(widths, plan, strict=True)):
            if not block or (point is not None and block[-1] != point.channels):
                needed = "at least one width" if point is None else f"a last width of {point.channels} ('{point.name}')"
                raise InputError(f"cloner.widths: block {index + 1} is {list(block)}; it needs {needed}")
            signed = point is not None and point.signed
            blocks.append(_block(channels, block, pools, rounds_up, signed))
            channels = block[-1]
        self.blocks = nn.ModuleList(blocks)
        self.ends = tuple(stage.point is not None for stage in plan)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("sd", torch.ones(1, 3, 1, 1))

    def forward(self, images: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the activations `(B, C_i, H_i, W_i)` at the critical points for images `(B, 3, H, W)`.

        `depth` says at how many of them, from the first on; None at all.
        """
        x = (images - self.mean) / self.sd
        if tuple(x.shape[-2:]) != self.size:
            x = interpolate(x, self.size, mode="bilinear", align_corners=False)
        found = []
        for block, is_critical in zip(self.blocks, self.ends, strict=True):
            x = block(x)
            if is_critical:
                found.append(x)
            if len(found) == depth:
                break
        return found


def build_cloner(
    parameters: ArchitectureParameters,
    source_name: str,
    points: Sequence[CriticalPoint],
    size: tuple[int, int],
    input_normalisation: tuple[Sequence[float], Sequence[float]],
) -> nn.Module:
    """Build an untrained cloner for a source's critical points at images of `size` (H, W).

    ``small`` has the published widths; ``equal`` the source's own architecture, of which VGG-16 gets BatchNorm (random
    VGG-16 without it does not train). `input_normalisation` is the source's, mean and sd a channel.
    """
    if parameters.size == "equal" and source_name != "vgg16":
        cloner: nn.Module = build_source(source_name).fit_to(size).select([point.name for point in points])
    elif parameters.size == "equal":
        cloner = Cloner(_VGG16_WIDTHS[: len(_pooling_plan(points, size)[0])], points, size)
    else:
        cloner = Cloner(small_widths(points, size, parameters.hidden_width), points, size)
    mean, sd = (torch.tensor(values).view(1, 3, 1, 1) for values in input_normalisation)
    cloner.mean.copy_(mean)
    cloner.sd.copy_(sd)
    return cloner


def small_widths(points: Sequence[CriticalPoint], size: tuple[int, int], hidden: int = 16) -> list[list[int]]:
    """Return the published small cloner's widths: two convolutions in the first two blocks, three in the others.

    For VGG-16's pool2..pool5: [16,16] [16,128] [16,16,256] [16,16,512] [16,16,512].
    """
    ends = [hidden if stage.point is None else stage.point.channels for stage in _pooling_plan(points, size)[0]]
    return [[hidden] * (1 if index < 2 else 2) + [end] for index, end in enumerate(ends)]


def _pooling_plan(points: Sequence[CriticalPoint], size: tuple[int, int]) -> tuple[list[_Stage], tuple[int, int]]:
    """List the cloner's blocks, so that halving images of `size` meets each point's resolution in turn.

    Also returned is the size that images are resampled to before: their own, where halving it meets the first point's
    resolution, else the nearest that does. So a transformer's patch of 14 pixels becomes one of 16.
    """
    plan: list[_Stage] = []
    first = points[0].height, points[0].width
    if _halvings(size, first) is None:
        times = max(round(log2(size[0] / first[0])), 0)
        size = first[0] * 2**times, first[1] * 2**times
    reached = size
    for point in points:
        found = _halvings(reached, (point.height, point.width))
        if found is None:
            raise InputError(
                f"the critical point '{point.name}' is {point.height} x {point.width} for images of {size[0]} x "
                f"{size[1]}, which halving cannot reach; use an image size that is a multiple of 32, "
                "or cloner.size=equal"
            )
        steps, up = found
        plan += [_Stage(True, up, None)] * (steps - 1) + [_Stage(steps > 0, up, point)]
        reached = point.height, point.width
    return plan, size


def _halvings(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, bool] | None:
    """Return how often `size` is halved to reach `target`, and whether odd sides are rounded up; None where it is not.

    Padded strides round odd sides up, VGG's pools round them down; some networks do both.
    """
    halvings = ((steps, up) for steps in range(max(size).bit_length()) for up in (False, True))
    return next(((steps, up) for steps, up in halvings if _halved(size, steps, up) == target), None)


def _halved(size: tuple[int, int], times: int, up: bool) -> tuple[int, int]:
    for _ in range(times):
        size = tuple((side + up) // 2 for side in size)
    return size


def _block(channels: int, widths: Sequence[int], pools: bool, ceil: bool, signed: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, width in enumerate(widths):
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.xavier_uniform_(convolution.weight)
        layers.append(convolution)
        if index < len(widths) - 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    # The published ReLU comes before the pool; the largest of what a ReLU leaves is what it leaves of the largest, and
    # there is a quarter of it.
    if pools:
        layers.append(nn.MaxPool2d(2, ceil_mode=ceil))
    if not signed:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def train_cloner(
    cloner: nn.Module,
    feature_set: FeatureSet,
    scales: list[float],
    positions: list[int],
    parameters: ClonerParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> "pd.DataFrame":
    """Train `cloner` in place on the training images, validate it on validation ones; return the loss history.

    Activations are divided by `scales`; the critical points at `positions` are in the loss. No image is augmented, so
    the source's activations are constants and the cache is exact.
    """
    cache = feature_set.features["source"]
    clone = compute.compiled(cloner)

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        source = [compute.move(found / scale) for found, scale in zip(cache.outputs(rows), scales, strict=True)]
        with compute.autocast():
            cloned = clone(compute.move(cache.images(rows)))
        return discrepancy_terms([source[i] for i in positions], [cloned[i] for i in positions], parameters.loss)

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    metric = "cloner.{split}.{term}"
    task = TrainingTask("cloner", cloner, loss, *parts, names=feature_set.split.name, metric=metric)
    return train(task, parameters.training, seed, checkpoint)
