"""The teachers of all receptive fields: trained on natural images (Bergmann et al. 2020, section 3.1), or found."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.learnt import Trained, train_once
from kdad.detectors.uninformed_students.parameters import TeacherParameters, UninformedStudentsSettings
from kdad.detectors.uninformed_students.teacher_losses import (
    KnowledgeTarget,
    compactness_loss,
    knowledge_loss,
    metric_loss,
)
from kdad.errors import InputError
from kdad.features.network import NetworkReference, prepare_source
from kdad.images.image_set import hash_content
from kdad.images.natural_pool import PATCH_ZOOM, NaturalPool
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.source import CriticalPoint
from kdad.networks.weights import fingerprint_state
from kdad.seeding import derive_seed, numpy_generator, torch_seed
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest
from kdad.training.loop import CheckpointFile, TrainingTask, train

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


def pretrain(
    parameters: TeacherParameters,
    receptive_fields: list[int],
    train_context: TrainContext,
    patches: "pd.DataFrame | None" = None,
) -> dict[int, Trained]:
    """Train a teacher for each receptive field, whatever images are predicted by it later and with which seed.

    `patches` is the table of `sample_patches`, sampled when it is not given; another table makes another teacher.
    Raises `InputError` for one that does not have what these settings need, and for crops smaller than a field.
    """
    import pandas as pd  # late: predicting takes none

    pool = NaturalPool(parameters.pool)
    teachers = {}
    for patch_size in receptive_fields:
        parameters.require_field(patch_size)
        table = sample_patches(pool, parameters, [patch_size]) if patches is None else patches
        own = patches_of(table, parameters, patch_size)
        key = content_key(
            teacher=parameters.recipe(),
            pool=pool.fingerprint(),
            patches=hash_content(pd.util.hash_pandas_object(own, index=False).to_numpy().tobytes()),
            receptive_field=patch_size,
            code=code_digest("kdad.detectors.uninformed_students.teacher"),
            **train_context.compute.describe(),
        )

        def run(checkpoint, patch_size=patch_size, own=own):
            return train_teacher(patch_size, pool, own, parameters, train_context.compute, checkpoint)

        teachers[patch_size] = train_once(train_context.models, key, run)
    return teachers


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


def train_teacher(
    patch_size: int,
    pool: NaturalPool,
    patches: "pd.DataFrame",
    parameters: TeacherParameters,
    compute: Compute,
    checkpoint: CheckpointFile,
) -> "tuple[PatchDescriptor, pd.DataFrame]":
    """Train a teacher of receptive field `patch_size` on the `patches` of `sample_patches`.

    Which losses it learns from, and whether patch by patch or at every position of crops, `parameters` say. Returns it,
    without its decoder, and its loss history.
    """
    size, target = parameters.cut_size(patch_size), None
    if parameters.knowledge_weight:
        source = prepare_source(parameters.source)
        field = "teacher.dense (crop_size times enlargement)" if parameters.is_dense else "teacher.source_size"
        source.require_size((parameters.seen_size(size),) * 2, field)
        source = compute.compiled(compute.place(source))
        target = KnowledgeTarget(source, compute, parameters).measure(pool.cut(part_of(patches, EMBEDDING), size))
    with torch_seed(parameters.seed, "teacher", patch_size):
        networks = nn.ModuleDict({"descriptor": PatchDescriptor(patch_size, parameters.depth, parameters.width)})
        _keep_scale(networks["descriptor"])
        if target is not None:
            given = parameters.depth, len(target.mean)
            networks["decoder"] = nn.Conv2d(*given, 1) if parameters.is_dense else nn.Linear(*given)
    compute.place(networks)
    loss = TeacherLoss(networks, size, pool, patches, parameters, target, compute)
    rows = np.arange(parameters.examples_per_epoch), np.arange(parameters.validation_examples)
    names = "crop {}".format if parameters.is_dense else "patch {}".format
    metric = f"teacher.{{split}}.p{patch_size}.{{term}}"
    task = TrainingTask(f"teacher p{patch_size}", networks, loss, *rows, loss.begin, names, metric)
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


class DenseTeacher(nn.Module):
    """Gives one output, the descriptors `(B, d, ceil(H / stride), ceil(W / stride))` of images `(B, 3, H, W)`."""

    def __init__(self, descriptor: PatchDescriptor, stride: int) -> None:
        super().__init__()
        self.descriptor, self.stride = descriptor, stride

    def forward(self, images: Tensor) -> list[Tensor]:
        """Describe the patch around every `stride`-th pixel."""
        return [self.descriptor.dense(images, self.stride)]

    def describe(self, size: tuple[int, int]) -> list[CriticalPoint]:
        """Return the shape of the descriptors of images of `size` (H, W)."""
        height, width = (-(-side // self.stride) for side in size)
        name = f"p{self.descriptor.patch_size}"
        return [CriticalPoint(name, self.descriptor.depth, height, width, signed=True)]


class TeacherReference(NetworkReference):
    """A teacher by what it is and its weights' hash."""

    prefix = "teacher_"

    receptive_field: int = Field(description="pixels")
    depth: int = Field(description="numbers in a descriptor")
    width: float = Field(description="of hidden layers")
    stride: int = Field(description="pixels between descriptors")

    def open(self) -> DenseTeacher:
        """Read the teacher, frozen; raises `InputError` when the file is gone, unreadable or another teacher's."""
        if not Path(self.weights).is_file():
            raise InputError(f"there is no teacher '{self.weights}'; run the pipeline 'teacher' first")
        state = self.read_weights()
        descriptor = PatchDescriptor(self.receptive_field, self.depth, self.width)
        try:
            descriptor.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"'{self.weights}' is not the teacher asked for (receptive field {self.receptive_field}, depth "
                f"{self.depth}, width {self.width}): {str(error).splitlines()[0]}; run the pipeline 'teacher' with "
                "these settings"
            ) from error
        return DenseTeacher(descriptor, self.stride).requires_grad_(False).eval()


def reference_teacher(
    trained: Trained, patch_size: int, parameters: TeacherParameters, stride: int
) -> TeacherReference:
    """Return what names a trained teacher, looked through at every `stride`-th pixel."""
    return TeacherReference(
        receptive_field=patch_size,
        depth=parameters.depth,
        width=parameters.width,
        stride=stride,
        weights=str(trained.weights.resolve()),
        fingerprint=fingerprint_state(trained.state),
    )


def require_teachers(found: Mapping[str, NetworkReference], settings: UninformedStudentsSettings) -> None:
    """Raise `InputError` for teachers, by ``p17`` and the like, that are gone, or of other settings."""
    wanted = {"depth": settings.teacher.depth, "width": settings.teacher.width}
    for field in settings.students.receptive_fields:
        teacher = found.get(f"p{field}")
        if teacher is None:
            raise InputError(f"there is no teacher of receptive field {field}; run the pipeline 'teacher' first")
        for name, value in {"receptive_field": field, **wanted, "stride": settings.students.output_stride}.items():
            if getattr(teacher, name) != value:
                raise InputError(
                    f"'{teacher.weights}' is another teacher: its {name} is {getattr(teacher, name)}, not {value}; run "
                    "the pipeline 'teacher' with these settings"
                )
        teacher.open()
