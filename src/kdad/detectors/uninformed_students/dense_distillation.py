"""Distilling a source into a teacher at every position of a crop at once, and not patch by patch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import TRAINING, VALIDATION, part_of
from kdad.detectors.uninformed_students.teacher_losses import (
    compactness_loss,
    dense_knowledge_loss,
    metric_loss,
    weigh_terms,
)
from kdad.images.natural_pool import NaturalPool
from kdad.images.statistics import ChannelStatistics
from kdad.networks.source import Source

_BATCH = 8


@dataclass
class DenseTarget:
    """P of dense L_k: the source's critical points on a teacher's grid, each channel standardised.

    The source sees crops enlarged `enlargement` times. Its activations at a critical point, i of n along an axis, are
    taken to look at the middle of the i-th of n equal parts of the crop, where those of Lite0 and VGG-16 do look
    (docs/uninformed_students.md). A grid has a position at every `stride`-th pixel, from the first. Standardised
    channels give every critical point, and L_k of any source, the same scale.
    """

    source: Source
    enlargement: float
    stride: int
    compute: Compute
    mean: Tensor | float = 0.0
    sd: Tensor | float = 1.0

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Tensor:
        """Return P `(B, C, h, w)` of crops `(B, 3, S, S)`, float32: C channels of all critical points together."""
        size = round(crops.shape[-1] * self.enlargement)
        enlarged = interpolate(crops, (size, size), mode="bilinear")
        with self.compute.autocast():
            found = self.source(self.compute.move(enlarged))
        on_grid = [pool_to_grid(activations.float(), crops.shape[-1], self.stride) for activations in found]
        return (torch.cat(on_grid, dim=1) - self.mean) / self.sd

    def measure(self, crops: Tensor) -> "DenseTarget":
        """Set mean and standard deviation of each channel to those of `crops`; a constant channel keeps its scale."""
        statistics = ChannelStatistics()
        for batch in crops.split(_BATCH):
            statistics.update(self(batch).cpu().numpy())
        self.mean, sd = (
            torch.from_numpy(value).float().to(self.compute.device).view(-1, 1, 1)
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


@dataclass
class DenseTeacherLoss:
    """L = lambda_k L_k + lambda_m L_m + lambda_c L_c of an epoch's own crops in training, fixed ones in validation.

    Every position of a crop counts alike: L_k and L_m are means over them, L_c is of all positions of the batch, so
    that correlations by chance are few. `crops` is the table of `sample_patches`.
    """

    networks: nn.ModuleDict
    pool: NaturalPool
    crops: pd.DataFrame
    parameters: TeacherParameters
    target: DenseTarget | None
    compute: Compute

    def begin(self, epoch: int) -> None:
        """Take the crops of an epoch, from 0."""
        self._training = part_of(self.crops, TRAINING, epoch)

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return each term `(B,)`; a term of weight 0 is left out, and what only it needs is not computed."""
        weights, dense = self.parameters, self.parameters.dense
        places = (self._training if self.networks.training else part_of(self.crops, VALIDATION)).iloc[rows]
        if weights.metric_weight:
            cut = self.pool.cut_triplets(places, dense.crop_size)
            crops = torch.cat([cut.anchors, cut.positives, cut.negatives])
        else:
            crops = self.pool.cut(places, dense.crop_size)
        with self.compute.autocast():
            described = self.networks["descriptor"].dense(self.compute.move(crops), dense.stride)
        described = described.float()  # (B or 3 B, d, h, w)
        own = described[: len(rows)]
        terms: dict[str, Tensor] = {}
        if weights.knowledge_weight:
            with self.compute.autocast():
                decoded = self.networks["decoder"](own)
            terms["knowledge"] = dense_knowledge_loss(decoded.float(), self.target(crops[: len(rows)]))
        if weights.metric_weight:
            each = metric_loss(*_positions(described).chunk(3), weights.margin)  # (B h w,)
            terms["metric"] = each.view(len(rows), -1).mean(dim=1)
        if weights.compactness_weight:
            terms["compactness"] = compactness_loss(_positions(own), weights.compactness_form).expand(len(rows))
        return weigh_terms(terms, weights)


def _positions(described: Tensor) -> Tensor:
    """Return descriptors `(B, d, h, w)` as a row for each position, `(B h w, d)`."""
    return described.movedim(1, -1).flatten(0, 2)
