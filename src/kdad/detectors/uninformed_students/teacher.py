"""Pretraining a teacher on natural images (Bergmann et al. 2020, section 3.1), patch by patch or densely."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.uninformed_students.dense_distillation import DenseTarget, DenseTeacherLoss
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import (
    EMBEDDING,
    TRAINING,
    VALIDATION,
    cut_size,
    part_of,
    training_count,
    validation_count,
)
from kdad.detectors.uninformed_students.teacher_losses import (
    compactness_loss,
    knowledge_loss,
    metric_loss,
    weigh_terms,
)
from kdad.features.source import prepare_source
from kdad.images.natural_pool import NaturalPool
from kdad.images.statistics import ChannelStatistics
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.source import Source
from kdad.seeding import derive_seed, torch_seed
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train

_BATCH = 64


@dataclass
class PatchEmbedding:
    """P(p) of L_k: the mean over positions of the source's last critical point, each channel standardised.

    Patches are enlarged to `size` pixels first. Standardised channels give L_k the same scale for any source.
    """

    source: Source
    size: int
    compute: Compute
    mean: Tensor | float = 0.0
    sd: Tensor | float = 1.0

    @torch.no_grad()
    def __call__(self, patches: Tensor) -> Tensor:
        """Return the embeddings `(B, C)` of patches `(B, 3, p, p)`, float32."""
        enlarged = interpolate(patches, (self.size, self.size), mode="bilinear")
        with self.compute.autocast():
            found = self.source(self.compute.move(enlarged))[-1]
        return (found.float().mean(dim=(2, 3)) - self.mean) / self.sd

    def measure(self, patches: Tensor) -> "PatchEmbedding":
        """Set mean and standard deviation of each channel to those of `patches`; a constant channel keeps its scale."""
        statistics = ChannelStatistics()
        for batch in patches.split(_BATCH):
            statistics.update(self(batch).cpu().numpy())
        self.mean, sd = (
            torch.from_numpy(value).float().to(self.compute.device) for value in (statistics.mean, statistics.sd)
        )
        self.sd = torch.where(sd > 0, sd, 1.0)
        return self


@dataclass
class TeacherLoss:
    """L = lambda_k L_k + lambda_m L_m + lambda_c L_c of an epoch's own patches in training, fixed ones in validation.

    `patches` is the table of `sample_patches`; a row of the training set is the same row of each epoch's part of it.
    """

    networks: nn.ModuleDict
    patch_size: int
    pool: NaturalPool
    patches: pd.DataFrame
    parameters: TeacherParameters
    embedding: PatchEmbedding | None
    compute: Compute

    def begin(self, epoch: int) -> None:
        """Take the patches of an epoch, from 0."""
        self._training = part_of(self.patches, TRAINING, epoch)

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return each term `(B,)`; a term of weight 0 is left out, and what only it needs is not computed."""
        weights = self.parameters
        descriptor = self.networks["descriptor"]
        places = (self._training if self.networks.training else part_of(self.patches, VALIDATION)).iloc[rows]
        if weights.metric_weight:
            cut = self.pool.cut_triplets(places, self.patch_size)
            patches = torch.cat([cut.anchors, cut.positives, cut.negatives])
        else:
            patches = self.pool.cut(places, self.patch_size)
        with self.compute.autocast():
            described = descriptor(self.compute.move(patches))
        described = described.float()
        own = described[: len(rows)]
        terms: dict[str, Tensor] = {}
        if weights.knowledge_weight:
            found = self.networks["decoder"](own)
            terms["knowledge"] = knowledge_loss(found, self.embedding(patches[: len(rows)]))
        if weights.metric_weight:
            terms["metric"] = metric_loss(*described.chunk(3), weights.margin)
        if weights.compactness_weight:
            terms["compactness"] = compactness_loss(own, weights.compactness_form).expand(len(rows))
        return weigh_terms(terms, weights)


def train_teacher(
    patch_size: int,
    pool: NaturalPool,
    patches: pd.DataFrame,
    parameters: TeacherParameters,
    compute: Compute,
    checkpoint: CheckpointFile,
) -> tuple[PatchDescriptor, pd.DataFrame]:
    """Train a teacher of receptive field `patch_size` on the `patches` of `sample_patches`.

    Which losses it learns from, and whether patch by patch or at every position of crops, `parameters` say. Returns it,
    without its decoder, and its loss history.
    """
    dense = parameters.distillation == "dense"
    target, channels = None, 1
    if parameters.knowledge_weight:
        source = compute.place(prepare_source(parameters.source))
        if dense:
            target = DenseTarget(source, parameters.dense.enlargement, parameters.dense.stride, compute)
        else:
            target = PatchEmbedding(source, parameters.source_size, compute)
        target.measure(pool.cut(part_of(patches, EMBEDDING), cut_size(parameters, patch_size)))
        channels = len(target.mean)
    with torch_seed(parameters.seed, "teacher", patch_size):
        networks = nn.ModuleDict({"descriptor": PatchDescriptor(patch_size, parameters.depth, parameters.width)})
        _keep_scale(networks["descriptor"])
        if parameters.knowledge_weight:
            decoder = nn.Conv2d(parameters.depth, channels, 1) if dense else nn.Linear(parameters.depth, channels)
            networks["decoder"] = decoder
    compute.place(networks)
    if dense:
        loss = DenseTeacherLoss(networks, pool, patches, parameters, target, compute)
    else:
        loss = TeacherLoss(networks, patch_size, pool, patches, parameters, target, compute)
    task = TrainingTask(
        f"teacher p{patch_size}",
        networks,
        loss,
        np.arange(training_count(parameters)),
        np.arange(validation_count(parameters)),
        loss.begin,
        f"{'crop' if dense else 'patch'} {{}}".format,
    )
    history = train(task, parameters.training_in_use, derive_seed(parameters.seed, "teacher", patch_size), checkpoint)
    return networks["descriptor"], history


def _keep_scale(network: nn.Module) -> None:
    """Initialise so that values keep their size through the layers.

    PyTorch's default shrinks them; L_c is blind to scale, its gradient grows as descriptors shrink and drowns L_k.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
