"""The teacher's losses (Bergmann et al. 2020, section 3.1): distilled knowledge, metric learning, compactness."""

from typing import Literal

import torch
from torch import Tensor

CompactnessForm = Literal["signed", "squared"]


def knowledge_loss(decoded: Tensor, embedding: Tensor) -> Tensor:
    """Return L_k = ||D(T(p)) - P(p)||^2 of each patch `(B,)`.

    Decoded descriptors and the source's embeddings are `(B, C)` (Bergmann et al. 2020, eq. 1).
    """
    return (decoded - embedding).square().sum(dim=1)


def metric_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Return L_m = max(0, margin + d+ - d-) of each triplet `(B,)`, for descriptors `(B, d)`.

    d+ = ||anchor - positive||^2; d- is the smaller of ||anchor - negative||^2 and ||positive - negative||^2
    (Bergmann et al. 2020, eq. 2-4).
    """
    near = (anchor - positive).square().sum(dim=1)
    far = torch.minimum((anchor - negative).square().sum(dim=1), (positive - negative).square().sum(dim=1))
    return (margin + near - far).clamp(min=0)


def compactness_loss(descriptors: Tensor, form: CompactnessForm = "signed") -> Tensor:
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
