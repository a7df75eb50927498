"""The teacher's loss (Bergmann et al. 2020, section 3.1), of patches or of whole crops of natural images."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdad.compute import Compute
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import TRAINING, VALIDATION, part_of
from kdad.detectors.uninformed_students.standardised_target import StandardisedTarget
from kdad.detectors.uninformed_students.teacher_losses import compactness_loss, metric_loss, weigh_terms
from kdad.images.synthetic.natural_pool import NaturalPool


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
