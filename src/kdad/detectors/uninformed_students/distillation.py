"""What a teacher learns from (Bergmann et al. 2020, section 3.1): patches as published, or every position of crops."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

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
    knowledge_loss,
    metric_loss,
    weigh_terms,
)
from kdad.images.statistics import ChannelStatistics
from kdad.images.synthetic.natural_pool import NaturalPool
from kdad.networks.source import Source


@dataclass
class StandardisedTarget(ABC):
    """P of L_k: standardised channels give L_k the same scale for any source."""

    source: Source
    compute: Compute
    mean: Tensor | float = field(default=0.0, init=False)
    sd: Tensor | float = field(default=1.0, init=False)
    measured_at_once: ClassVar[int]  # images

    @abstractmethod
    def raw(self, images: Tensor) -> Tensor:
        """Return P `(B, C, ...)` of images `(B, 3, S, S)` before it is standardised, float32."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return P `(B, C, ...)` of images `(B, 3, S, S)`, float32."""
        return (self.raw(images) - self.mean) / self.sd

    def measure(self, images: Tensor) -> "StandardisedTarget":
        """Set mean and standard deviation of each channel to those of `images`; a constant channel keeps its scale."""
        statistics = ChannelStatistics()
        for batch in images.split(self.measured_at_once):
            found = self(batch)
            statistics.update(found.cpu().numpy())
        shape = (-1, *[1] * (found.ndim - 2))
        self.mean, sd = (
            torch.from_numpy(value).float().to(self.compute.device).view(shape)
            for value in (statistics.mean, statistics.sd)
        )
        self.sd = torch.where(sd > 0, sd, 1.0)
        return self


@dataclass
class TeacherLoss(ABC):
    """L = lambda_k L_k + lambda_m L_m + lambda_c L_c of what an epoch has of its own in training, fixed in validation.

    `places` is the table of `sample_patches`, of patches or crops of `size` pixels; a row of the training set is the
    same row of each epoch's part of it.
    """

    networks: nn.ModuleDict
    size: int
    pool: NaturalPool
    places: pd.DataFrame
    parameters: TeacherParameters
    target: StandardisedTarget | None
    compute: Compute

    @abstractmethod
    def describe(self, images: Tensor) -> Tensor:
        """Return the descriptors `(B, d, ...)` of images `(B, 3, S, S)`."""

    @abstractmethod
    def knowledge(self, described: Tensor, target: Tensor) -> Tensor:
        """Return L_k `(B,)` of descriptors `(B, d, ...)`."""

    @abstractmethod
    def one_by_one(self, described: Tensor) -> Tensor:
        """Return descriptors `(B, d, ...)` as a row each, those of an image one after another `(N, d)`."""

    def begin(self, epoch: int) -> None:
        """Take the patches or crops of an epoch, from 0."""
        self._training = part_of(self.places, TRAINING, epoch)

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return each term `(B,)`; a term of weight 0 is left out, and what only it needs is not computed."""
        weights = self.parameters
        places = (self._training if self.networks.training else part_of(self.places, VALIDATION)).iloc[rows]
        if weights.metric_weight:
            cut = self.pool.cut_triplets(places, self.size)
            images = torch.cat([cut.anchors, cut.positives, cut.negatives])
        else:
            images = self.pool.cut(places, self.size)
        with self.compute.autocast():
            described = self.describe(self.compute.move(images))
        described = described.float()  # (B or 3 B, d, ...)
        own = described[: len(rows)]
        terms: dict[str, Tensor] = {}
        if weights.knowledge_weight:
            terms["knowledge"] = self.knowledge(own, self.target(images[: len(rows)]))
        if weights.metric_weight:
            each = metric_loss(*self.one_by_one(described).chunk(3), weights.margin)
            terms["metric"] = each.view(len(rows), -1).mean(dim=1)
        if weights.compactness_weight:
            terms["compactness"] = compactness_loss(self.one_by_one(own), weights.compactness_form).expand(len(rows))
        return weigh_terms(terms, weights)


@dataclass
class PatchEmbedding(StandardisedTarget):
    """P(p) of L_k: the mean over positions of the source's last critical point, each channel standardised.

    Patches are enlarged to `size` pixels first.
    """

    size: int
    measured_at_once = 64

    def raw(self, images: Tensor) -> Tensor:
        """Return the embeddings `(B, C)` of patches `(B, 3, p, p)`, float32."""
        enlarged = interpolate(images, (self.size, self.size), mode="bilinear")
        with self.compute.autocast():
            found = self.source(self.compute.move(enlarged))[-1]
        return found.float().mean(dim=(2, 3))


class PatchTeacherLoss(TeacherLoss):
    """The published loss: a patch has one descriptor."""

    def describe(self, images: Tensor) -> Tensor:
        """Return a descriptor `(B, d)` of each patch."""
        return self.networks["descriptor"](images)

    def knowledge(self, described: Tensor, target: Tensor) -> Tensor:
        """Return `knowledge_loss`."""
        return knowledge_loss(self.networks["decoder"](described), target)

    def one_by_one(self, described: Tensor) -> Tensor:
        """Return them as they are."""
        return described


@dataclass
class DenseTarget(StandardisedTarget):
    """P of dense L_k: the source's critical points on a teacher's grid, each channel standardised.

    The source sees crops enlarged `enlargement` times. Its activations at a critical point, i of n along an axis, are
    taken to look at the middle of the i-th of n equal parts of the crop, where those of Lite0 and VGG-16 do look
    (docs/lab/uninformed_students.md). A grid has a position at every `stride`-th pixel, from the first. Standardised
    channels give every critical point the same scale.
    """

    enlargement: float
    stride: int
    measured_at_once = 8

    def raw(self, images: Tensor) -> Tensor:
        """Return P `(B, C, h, w)` of crops `(B, 3, S, S)`, float32: C channels of all critical points together."""
        size = round(images.shape[-1] * self.enlargement)
        enlarged = interpolate(images, (size, size), mode="bilinear")
        with self.compute.autocast():
            found = self.source(self.compute.move(enlarged))
        return torch.cat([pool_to_grid(one.float(), images.shape[-1], self.stride) for one in found], dim=1)


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


class DenseTeacherLoss(TeacherLoss):
    """The loss of whole crops, every position of which counts alike.

    L_k and L_m are means over positions, L_c is of all positions of the batch, so that correlations by chance are few.
    """

    def describe(self, images: Tensor) -> Tensor:
        """Return the descriptors of each crop on the grid, `(B, d, h, w)`."""
        return self.networks["descriptor"].dense(images, self.parameters.dense.stride)

    def knowledge(self, described: Tensor, target: Tensor) -> Tensor:
        """Return `dense_knowledge_loss`."""
        with self.compute.autocast():
            decoded = self.networks["decoder"](described)
        return dense_knowledge_loss(decoded.float(), target)

    def one_by_one(self, described: Tensor) -> Tensor:
        """Return a row for each position, `(B h w, d)`."""
        return described.movedim(1, -1).flatten(0, 2)
