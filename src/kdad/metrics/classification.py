"""How right a classifier is, and how well it knows it."""

import torch
from torch import Tensor

from kdad.errors import InputError

BINS = 15


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return ``accuracy`` and ``ece`` (expected calibration error, 15 bins of confidence), both in [0, 1].

    `logits` are `(N, K)`, `labels` `(N,)`. Raises `InputError` without images or for lengths that differ.
    """
    if len(labels) == 0 or len(logits) != len(labels):
        raise InputError(f"there are {len(logits)} predictions for {len(labels)} labels; accuracy needs one for each")
    from torchmetrics.functional.classification import multiclass_calibration_error  # slow, and seldom wanted

    probabilities = torch.softmax(logits.float(), dim=1)
    error = multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=BINS)
    return {"accuracy": float((logits.argmax(1) == labels).float().mean()), "ece": float(error)}
