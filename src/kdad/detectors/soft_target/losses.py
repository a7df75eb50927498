"""Soft targets, the loss that distils them, and the offset of a class that was left out (Hinton et al. 2015)."""

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


def best_offset(logits: Tensor, labels: Tensor, number: int) -> float:
    """Return what to add to a class's logit so that most of these images are classified rightly.

    `logits` are `(N, K)`, `labels` `(N,)`. Of equally good offsets it is the middle of the lowest run (Hinton et al.
    2015, section 3, where the offset was set on test images; here it is for validation ones).
    """
    others = logits.clone()
    others[:, number] = -torch.inf
    rival, rival_class = others.max(1)
    # From this offset on, an image is given to the class.
    margin, order = (rival - logits[:, number]).sort()
    gained = (labels == number).long() - (rival_class == labels).long()
    rightly = torch.cat([torch.zeros(1, dtype=torch.long), gained[order].cumsum(0)])
    step = int(rightly.argmax())
    if step == 0:
        return float(margin[0] - 1)
    return float(margin[step - 1] + 1) if step == len(margin) else float((margin[step - 1] + margin[step]) / 2)
