"""Pretraining a teacher on natural images (Bergmann et al. 2020, section 3.1), patch by patch or densely."""

import numpy as np
import pandas as pd
from torch import nn

from kdad.compute import Compute
from kdad.detectors.uninformed_students.distillation import (
    DenseTarget,
    DenseTeacherLoss,
    PatchEmbedding,
    PatchTeacherLoss,
)
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import (
    EMBEDDING,
    cut_size,
    part_of,
    training_count,
    validation_count,
)
from kdad.features.network import prepare_source
from kdad.images.synthetic.natural_pool import NaturalPool
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.seeding import derive_seed, torch_seed
from kdad.training.checkpoints import CheckpointFile
from kdad.training.loop import TrainingTask, train


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
    dense, size = parameters.distillation == "dense", cut_size(parameters, patch_size)
    target, channels = None, 1
    if parameters.knowledge_weight:
        source = compute.compiled(compute.place(prepare_source(parameters.source)))
        if dense:
            target = DenseTarget(source, compute, parameters.dense.enlargement, parameters.dense.stride)
        else:
            target = PatchEmbedding(source, compute, parameters.source_size)
        target.measure(pool.cut(part_of(patches, EMBEDDING), size))
        channels = len(target.mean)
    with torch_seed(parameters.seed, "teacher", patch_size):
        networks = nn.ModuleDict({"descriptor": PatchDescriptor(patch_size, parameters.depth, parameters.width)})
        _keep_scale(networks["descriptor"])
        if parameters.knowledge_weight:
            decoder = nn.Conv2d(parameters.depth, channels, 1) if dense else nn.Linear(parameters.depth, channels)
            networks["decoder"] = decoder
    compute.place(networks)
    made = DenseTeacherLoss if dense else PatchTeacherLoss
    loss = made(networks, size, pool, patches, parameters, target, compute)
    task = TrainingTask(
        f"teacher p{patch_size}",
        networks,
        loss,
        np.arange(training_count(parameters)),
        np.arange(validation_count(parameters)),
        loss.begin,
        f"{'crop' if dense else 'patch'} {{}}".format,
        f"teacher.{{split}}.p{patch_size}.{{term}}",
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
