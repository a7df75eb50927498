"""The losses that a teacher learns by (Bergmann et al. 2020, section 3.1), and what L_k compares it with."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.images.image_set import ChannelStatistics
from kdad.networks.source import Source

_MEASURED_AT_ONCE = {"patches": 64, "dense": 8}  # images


def knowledge_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Return L_k = ||D(T(p)) - P(p)||^2 of each image `(B,)`, its mean over places where there are several.

    Decoded descriptors and targets are `(B, C)` of patches (Bergmann et al. 2020, eq. 1), `(B, C, h, w)` of crops: the
    patch around each position of a grid, whose target, the source's channels there, sees beyond the patch.
    """
    return (decoded - target).square().sum(dim=1).reshape(len(decoded), -1).mean(dim=1)


def metric_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Return L_m = max(0, margin + d+ - d-) of each triplet `(B,)`, for descriptors `(B, d)`.

    d+ = ||anchor - positive||^2; d- is the smaller of ||anchor - negative||^2 and ||positive - negative||^2
    (Bergmann et al. 2020, eq. 2-4).
    """
    near = (anchor - positive).square().sum(dim=1)
    far = torch.minimum((anchor - negative).square().sum(dim=1), (positive - negative).square().sum(dim=1))
    return (margin + near - far).clamp(min=0)


def compactness_loss(descriptors: Tensor, form: Literal["signed", "squared"] = "signed") -> Tensor:
    """Return L_c, the sum over i != j of the correlations c_ij of channels over the batch `(B, d)`, a scalar.

    It is taken of the teacher's own output, before the decoder (Bergmann et al. 2020, eq. 5). ``signed`` is as printed:
    negative correlations cancel positive ones, so it is least when the channels add up to a constant, however redundant
    they are. ``squared`` sums c_ij^2 and is least when none correlates. Constant channels correlate with none.
    """
    centred = descriptors - descriptors.mean(dim=0)
    unit = centred / centred.norm(dim=0).clamp(min=1e-6)  # (B, d), columns of length 1
    correlations = unit.T @ unit  # (d, d)
    if form == "squared":
        correlations = correlations.square()
    return correlations.sum() - correlations.diagonal().sum()


@dataclass
class KnowledgeTarget:
    """P of L_k: what the source says of images, each channel standardised, so that any source has one scale.

    Of a patch, enlarged to `source_size` pixels: the mean over positions of the last critical point. Of a crop,
    enlarged `enlargement` times: all critical points on the teacher's grid, a position at every `stride`-th pixel from
    the first. Activation i of n along an axis is taken to look at the middle of the i-th of n equal parts of the crop,
    where those of Lite0 and VGG-16 do look (docs/lab/uninformed_students.md).
    """

    source: Source
    compute: Compute
    parameters: TeacherParameters
    mean: Tensor | float = field(default=0.0, init=False)
    sd: Tensor | float = field(default=1.0, init=False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return P of images `(B, 3, S, S)`, float32: `(B, C)` of patches, `(B, C, h, w)` of crops."""
        side, dense = images.shape[-1], self.parameters.dense
        size = self.parameters.seen_size(side)
        enlarged = interpolate(images, (size, size), mode="bilinear")
        with self.compute.autocast():
            activations = self.source(self.compute.move(enlarged))
        if self.parameters.is_dense:
            raw = torch.cat([pool_to_grid(one.float(), side, dense.stride) for one in activations], dim=1)
        else:
            raw = activations[-1].float().mean(dim=(2, 3))
        return (raw - self.mean) / self.sd

    def measure(self, images: Tensor) -> "KnowledgeTarget":
        """Set mean and standard deviation of each channel to those of `images`; a constant channel keeps its scale."""
        statistics = ChannelStatistics()
        for batch in images.split(_MEASURED_AT_ONCE[self.parameters.distillation]):
            statistics.update(self(batch).cpu().numpy())
        shape = (-1, 1, 1) if self.parameters.is_dense else (-1,)
        self.mean, sd = (
            torch.from_numpy(value).float().to(self.compute.device).view(shape)
            for value in (statistics.mean, statistics.sd)
        )
        self.sd = torch.where(sd > 0, sd, 1.0)
        return self


def pool_to_grid(activations: Tensor, side: int, stride: int) -> Tensor:
    """Return activations `(B, C, n, n)` of images of `side` pixels at every `stride`-th pixel `(B, C, h, h)`.

    A position takes a mean over the activations around its pixel, with weights that fall linearly to 0 at one grid
    step or one activation, whichever is wider: coarse maps are interpolated, fine ones pooled.
    """
    weights = grid_weights(activations.shape[-1], side, stride).to(activations.device)
    return weights @ activations @ weights.T


def grid_weights(length: int, side: int, stride: int) -> Tensor:
    """Return how much each of `length` activations counts at each grid position `(h, length)`; rows add up to 1."""
    positions = (torch.arange(0, side, stride) + 0.5) / side * length  # middles of pixels, in activations
    distances = (positions[:, None] - (torch.arange(length) + 0.5)).abs()
    reach = max(stride / side * length, 1.0)
    weights = (1 - distances / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
