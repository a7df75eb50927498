"""EfficientAD's autoencoder, and training student and autoencoder on a teacher's descriptors (Batzner et al. 2024)."""

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdad.compute import Compute
from kdad.detectors.efficient_ad.parameters import RECEPTIVE_FIELD, STRIDE, EfficientAdParameters
from kdad.detectors.uninformed_students.students import Standardisation, targets_of
from kdad.features.extraction import FeatureSet
from kdad.features.network import FrozenNetwork
from kdad.images.natural_pool import NaturalPool
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.seeding import derive_seed, numpy_generator, torch_seed
from kdad.training.loop import CheckpointFile, TrainingTask, train

if TYPE_CHECKING:
    import pandas as pd


_BOTTLENECK, _NARROW, _WIDE = 64, 32, 64
_COARSEST = 8  # locations a side at most, before and after the bottleneck
_DROPOUT = 0.2


class DescriptorAutoencoder(nn.Module):
    """Strided convolutions down to a vector of 64 numbers, and a way up to descriptors `(B, depth, h, w)`.

    Images are of one `size` (H, W), descriptors on one `grid` (h, w). What lies where in an image has to pass the
    vector, so a logical defect does not (Batzner et al. 2024, section 3.3; widths, bottleneck and dropout are theirs).
    """

    def __init__(self, depth: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        down: list[nn.Module] = []
        channels = 3
        while max(size) > _COARSEST and min(size) > 1:
            width = _NARROW if len(down) < 4 else _WIDE
            down += [nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU()]
            channels, size = width, (size[0] // 2, size[1] // 2)
        self.encoder = nn.Sequential(*down, nn.Conv2d(channels, _BOTTLENECK, size))
        self.sizes = [grid]
        while max(self.sizes[0]) > _COARSEST:
            height, width = self.sizes[0]
            self.sizes.insert(0, (ceil(height / 2), ceil(width / 2)))
        height, width = self.sizes[0]
        self.widen = nn.Sequential(nn.Linear(_BOTTLENECK, _WIDE * height * width), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(_WIDE, _WIDE, 3, padding=1), nn.ReLU(), nn.Dropout(_DROPOUT)) for _ in self.sizes
        )
        self.head = nn.Conv2d(_WIDE, depth, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # Values keep their size through ten layers: PyTorch's default shrinks them, and little is learnt.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the descriptors of images `(B, 3, H, W)` in [0, 1] would be, were they as in training."""
        vectors = self.encoder(images * 2 - 1).flatten(1)
        x = self.widen(vectors).unflatten(1, (_WIDE, *self.sizes[0]))
        for stage, size in zip(self.stages, self.sizes, strict=True):
            x = stage(interpolate(x, size=size, mode="bilinear", align_corners=False) if x.shape[2:] != size else x)
        return self.head(x)


def new_networks(parameters: EfficientAdParameters, size: tuple[int, int], seed: int) -> nn.ModuleDict:
    """Build the ``student``, and the ``autoencoder`` where there is one, for images of `size` (H, W).

    The student is the teacher's own network, with twice the channels beside an autoencoder.
    """
    teacher, halves = parameters.teacher, 2 if parameters.autoencoder else 1
    with torch_seed(seed, "efficient_ad", "initialisation"):
        student = PatchDescriptor(RECEPTIVE_FIELD, halves * teacher.depth, teacher.width)
        networks = nn.ModuleDict({"student": student})
        if parameters.autoencoder:
            grid = (ceil(size[0] / STRIDE), ceil(size[1] / STRIDE))
            networks["autoencoder"] = DescriptorAutoencoder(teacher.depth, size, grid)
    return networks


def hard_feature_loss(errors: Tensor, quantile: float) -> Tensor:
    """Return the mean of an image's errors that are not below their `quantile`, `(B,)`, for `(B, d, h, w)`.

    Errors are squared, each of one channel at one location (Batzner et al. 2024, section 3.2); by 0 all count.
    """
    values = errors.flatten(1)
    hard = values.shape[1] - ceil(quantile * (values.shape[1] - 1))
    return (values if quantile == 0 else values.topk(hard, dim=1, sorted=False).values).mean(1)


@dataclass
class NaturalCrops:
    """Crops of natural images, one for each image: new ones in each epoch, and fixed ones in validation."""

    parameters: EfficientAdParameters
    count: int
    side: int
    seed: int
    pool: NaturalPool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = NaturalPool(self.parameters.teacher.pool)
        self.fixed = self._sample("validation", 0)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Take the crops of an epoch, from 0."""
        self.training = self._sample("training", epoch)

    def cut(self, rows: np.ndarray, training: bool) -> Tensor:
        """Return the crops `(B, 3, side, side)` of these images' rows."""
        return self.pool.cut((self.training if training else self.fixed).iloc[rows], self.side)

    def _sample(self, use: str, epoch: int) -> "pd.DataFrame":
        generator = numpy_generator(self.seed, "efficient_ad", "natural", use, epoch)
        return self.pool.sample(self.count, generator, self.parameters.teacher.dense.zoom)


def crop_side(parameters: EfficientAdParameters, size: tuple[int, int]) -> int:
    """Return the side of natural crops: that of the teacher's, or of images of `size` (H, W), if these are smaller."""
    return min(parameters.teacher.dense.crop_size, max(size))


def train_networks(
    networks: nn.ModuleDict,
    teacher: FrozenNetwork,
    feature_set: FeatureSet,
    standardise: Standardisation,
    parameters: EfficientAdParameters,
    compute: Compute,
    seed: int,
    checkpoint: CheckpointFile,
) -> "pd.DataFrame":
    """Train student and autoencoder together, in place, on the training images; return the loss history.

    Terms, each a mean over channels and locations: the ``student``'s hard features, its squared output for natural
    crops (``penalty``), the ``autoencoder``'s distance to the teacher, and the distance of the student's second half to
    the autoencoder (``student_autoencoder``). Images are not jittered, unlike the published autoencoder's: so the
    teacher's descriptors are those that are kept.
    """
    depth = parameters.teacher.depth
    predict = compute.compiled(networks["student"].dense)
    reconstruct = compute.compiled(networks["autoencoder"]) if parameters.autoencoder else None
    side = crop_side(parameters, feature_set.images.size)
    natural = NaturalCrops(parameters, len(feature_set.split), side, seed) if parameters.penalty_weight else None

    def loss(rows: np.ndarray) -> dict[str, Tensor]:
        images = compute.move(feature_set.batch(rows))
        targets = targets_of(teacher, feature_set, rows, images, standardise)
        with compute.autocast():
            predicted = predict(images, STRIDE)
            reconstructed = reconstruct(images) if reconstruct else None
        predicted = predicted.float()
        errors = (predicted[:, :depth] - targets).square()
        terms = {"student": hard_feature_loss(errors, parameters.hard_quantile)}
        if natural is not None:
            crops = compute.move(natural.cut(rows, networks.training))
            with compute.autocast():
                said = predict(crops, STRIDE)[:, :depth]
            terms["penalty"] = parameters.penalty_weight * _mean_square(said)
        if reconstructed is not None:
            terms["autoencoder"] = _mean_square(reconstructed.float() - targets)
            terms["student_autoencoder"] = _mean_square(predicted[:, depth:] - reconstructed.float())
        return {**terms, "total": sum(terms.values())}  # last: where the progress line finds it among so many

    parts = feature_set.split.rows("train"), feature_set.split.rows("validation")
    begin = natural.begin if natural is not None else lambda epoch: None
    metric = "student.{split}.{term}"
    task = TrainingTask("efficient_ad", networks, loss, *parts, begin, feature_set.split.name, metric)
    return train(task, parameters.training, derive_seed(seed, "efficient_ad"), checkpoint)


def _mean_square(values: Tensor) -> Tensor:
    return values.float().square().flatten(1).mean(1)
