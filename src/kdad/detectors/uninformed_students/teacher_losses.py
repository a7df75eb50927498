"""What a teacher sees and learns from (Bergmann et al. 2020, section 3.1): patches, or every position of crops."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.errors import InputError
from kdad.images.image_set import ChannelStatistics
from kdad.images.natural_pool import PATCH_ZOOM, NaturalPool
from kdad.networks.source import Source
from kdad.seeding import numpy_generator

if TYPE_CHECKING:
    import pandas as pd


TRAINING, VALIDATION, EMBEDDING = "training", "validation", "embedding"
#: How many are behind the mean and standard deviation of what L_k compares with; a crop has many positions.
_MEASURED = {"patches": 1024, "dense": 64}


def sample_patches(pool: NaturalPool, parameters: TeacherParameters, receptive_fields: list[int]) -> "pd.DataFrame":
    """Return the places of every patch, or crop: receptive_field, use, epoch, and the columns of `NaturalPool.sample`.

    ``training`` ones are new in each epoch; ``validation`` ones are fixed (epoch 0), and so are those that the
    source's ``embedding`` is standardised by. A positive of L_m is moved by up to (p - 1) / 4 pixels. Raises
    `InputError` for crops smaller than a receptive field p.
    """
    import pandas as pd  # late: predicting takes none

    zoom = parameters.dense.zoom if parameters.is_dense else PATCH_ZOOM
    tables = []
    for patch_size in receptive_fields:
        parameters.require_field(patch_size)
        moved_by = (patch_size - 1) / 4 / parameters.cut_size(patch_size) if parameters.metric_weight else None
        for (use, epoch), count in _counts(parameters).items():
            generator = numpy_generator(parameters.seed, "teacher", "patches", patch_size, use, epoch)
            places = pool.sample(count, generator, zoom, None if use == EMBEDDING else moved_by)
            tables.append(places.assign(receptive_field=patch_size, use=use, epoch=epoch))
    joined = pd.concat(tables, ignore_index=True)
    named = joined[["receptive_field", "use", "epoch"]].astype({"use": "category"})
    return named.join(joined.drop(columns=list(named)))


def patches_of(patches: "pd.DataFrame", parameters: TeacherParameters, receptive_field: int) -> "pd.DataFrame":
    """Return the rows of one receptive field; raises `InputError` when they are not as many as the settings need."""
    own, needed = patches[patches["receptive_field"] == receptive_field], _counts(parameters)
    if own.groupby(["use", "epoch"], observed=True).size().to_dict() != needed:
        raise InputError(
            f"teacher_patches holds {len(own)} patches of receptive field {receptive_field}, and these settings need "
            f"{sum(needed.values())}; sample them anew with the pipeline 'ingestion'"
        )
    return own


def part_of(patches: "pd.DataFrame", use: str, epoch: int = 0) -> "pd.DataFrame":
    """Return the rows of one use and epoch, in their order."""
    return patches[(patches["use"] == use) & (patches["epoch"] == epoch)]


def _counts(parameters: TeacherParameters) -> dict[tuple[str, int], int]:
    """Return how many there are of each use and epoch, in the order of the table."""
    measured = {(EMBEDDING, 0): _MEASURED[parameters.distillation]} if parameters.knowledge_weight else {}
    epochs = range(parameters.training_in_use.epochs)
    training = {(TRAINING, epoch): parameters.examples_per_epoch for epoch in epochs}
    return measured | {(VALIDATION, 0): parameters.validation_examples} | training


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


@dataclass
class TeacherLoss:
    """L = lambda_k L_k + lambda_m L_m + lambda_c L_c of what an epoch has of its own in training, fixed in validation.

    `places` is the table of `sample_patches`, of patches or crops of `size` pixels; a row of the training set is the
    same row of each epoch's part of it. Of crops L_k and L_m are means over positions, L_c is of all positions of the
    batch, so that correlations by chance are few.
    """

    networks: nn.ModuleDict
    size: int
    pool: NaturalPool
    places: "pd.DataFrame"
    parameters: TeacherParameters
    target: KnowledgeTarget | None
    compute: Compute

    def begin(self, epoch: int) -> None:
        """Take the patches or crops of an epoch, from 0."""
        self._training = part_of(self.places, TRAINING, epoch)

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return ``total`` and each term `(B,)`; one of weight 0 is left out, and what only it needs not computed."""
        weights = self.parameters
        places = (self._training if self.networks.training else part_of(self.places, VALIDATION)).iloc[rows]
        if weights.metric_weight:
            images = torch.cat(self.pool.cut_triplets(places, self.size))
        else:
            images = self.pool.cut(places, self.size)
        with self.compute.autocast():
            described = self._describe(self.compute.move(images))
        described = described.float()  # (B or 3 B, d) of patches, (B or 3 B, d, h, w) of crops
        own = described[: len(rows)]
        terms: dict[str, Tensor] = {}
        if weights.knowledge_weight:
            with self.compute.autocast() if weights.is_dense else nullcontext():
                decoded = self.networks["decoder"](own)
            terms["knowledge"] = knowledge_loss(decoded.float(), self.target(images[: len(rows)]))
        if weights.metric_weight:
            each = metric_loss(*_one_by_one(described).chunk(3), weights.margin)
            terms["metric"] = each.view(len(rows), -1).mean(dim=1)
        if weights.compactness_weight:
            terms["compactness"] = compactness_loss(_one_by_one(own), weights.compactness_form).expand(len(rows))
        total = sum(getattr(weights, f"{name}_weight") * values for name, values in terms.items())
        return {"total": total, **terms}

    def _describe(self, images: Tensor) -> Tensor:
        descriptor = self.networks["descriptor"]
        return (
            descriptor.dense(images, self.parameters.dense.stride) if self.parameters.is_dense else descriptor(images)
        )


def _one_by_one(described: Tensor) -> Tensor:
    """Return descriptors `(B, d, ...)` as a row each, those of an image one after another `(N, d)`."""
    return described.movedim(1, -1).reshape(-1, described.shape[1])
