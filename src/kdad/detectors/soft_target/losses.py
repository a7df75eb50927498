"""Soft targets and the loss that distils them (Hinton et al. 2015)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

UNLABELLED = -1


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return q_i = exp(z_i / T) / sum_j exp(z_j / T), `(B, K)` (eq. 1): the larger T, the softer."""
    return torch.softmax(logits.float() / temperature, dim=1)


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || student) of the softened distributions, `(B,)`, for logits `(B, K)`."""
    found = log_softmax(student.float() / temperature, dim=1)
    return kl_div(found, soften(teacher, temperature), reduction="none").sum(1)


def soft_target_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> dict[str, Tensor]:
    """Return ``total`` = alpha T^2 KL + (1 - alpha) CE with its terms ``soft`` and ``hard``, each `(B,)` (section 2).

    T^2 keeps the soft term's gradient at its scale when T changes. CE is 0 for rows labelled `UNLABELLED`.
    """
    soft = temperature**2 * softened_divergence(student, teacher, temperature)
    hard = cross_entropy(student.float(), labels, ignore_index=UNLABELLED, reduction="none")
    return {"total": alpha * soft + (1 - alpha) * hard, "soft": soft, "hard": hard}
