"""Distilling a source into a teacher at every position of a crop at once, and not patch by patch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdad.detectors.uninformed_students.standardised_target import StandardisedTarget
from kdad.detectors.uninformed_students.teacher_losses import dense_knowledge_loss
from kdad.detectors.uninformed_students.teacher_objective import TeacherLoss


@dataclass
class DenseTarget(StandardisedTarget):
    """P of dense L_k: the source's critical points on a teacher's grid, each channel standardised.

    The source sees crops enlarged `enlargement` times. Its activations at a critical point, i of n along an axis, are
    taken to look at the middle of the i-th of n equal parts of the crop, where those of Lite0 and VGG-16 do look
    (docs/uninformed_students.md). A grid has a position at every `stride`-th pixel, from the first. Standardised
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
