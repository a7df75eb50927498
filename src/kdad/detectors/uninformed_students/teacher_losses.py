"""The teacher's losses (Bergmann et al. 2020, section 3.1): distilled knowledge, metric learning, compactness."""

from typing import Literal

import torch
from torch import Tensor

from kdad.detectors.uninformed_students.parameters import TeacherParameters

CompactnessForm = Literal["signed", "squared"]


def knowledge_loss(decoded: Tensor, embedding: Tensor) -> Tensor:
    """Return L_k = ||D(T(p)) - P(p)||^2 of each patch `(B,)`.

    Decoded descriptors and the source's embeddings are `(B, C)` (Bergmann et al. 2020, eq. 1).
    """
    return (decoded - embedding).square().sum(dim=1)


def dense_knowledge_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Return dense L_k = 1 / (h w) sum_x ||D(T(p_x)) - P_x||^2 of each crop `(B,)`: `knowledge_loss`, mean over places.

    p_x is the patch around position x of a grid, T its descriptor, D a 1 x 1 convolution and P_x the source's
    standardised channels at x: a published eq. 1 (Bergmann et al. 2020) whose targets see beyond the patch. Decoded
    descriptors and targets are `(B, C, h, w)`.
    """
    return (decoded - target).square().sum(dim=1).mean(dim=(1, 2))


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


def weigh_terms(terms: dict[str, Tensor], weights: TeacherParameters) -> dict[str, Tensor]:
    """Return ``total`` = lambda_k L_k + lambda_m L_m + lambda_c L_c of the terms that there are, and these."""
    total = sum(getattr(weights, f"{name}_weight") * values for name, values in terms.items())
    return {"total": total, **terms}
