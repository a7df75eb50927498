"""How well detection scores rank images, and how right a classifier is."""

import numpy as np
import torch
from torch import Tensor

from kdad.errors import InputError

#: Scores drawn, or counts held, at once in a bootstrap; bounds its memory to some tens of MB.
_DRAWS = 1 << 20


def image_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve.

    `labels` are `(N,)`, 0 normal and 1 anomalous; `scores` `(N,)`, larger is more anomalous. This and the functions
    below raise `InputError` when lengths differ, a label is not 0 or 1 or one of the two is absent, or a score is not
    finite.
    """
    from sklearn.metrics import roc_auc_score

    _check_both_labels(labels, scores)
    return float(roc_auc_score(labels, scores))


def image_ap(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the average precision: sum over thresholds of (recall step) * precision."""
    from sklearn.metrics import average_precision_score

    _check_both_labels(labels, scores)
    return float(average_precision_score(labels, scores))


def image_f1_max(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the largest F1 over all thresholds: a bound on what any can do, as labels are at hand to choose it."""
    from sklearn.metrics import precision_recall_curve

    _check_both_labels(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]  # scikit-learn's last point belongs to no threshold
    return float((2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)).max())


def auroc_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    resamples: int,
    generator: np.random.Generator,
    level: float = 0.95,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the bootstrap percentile interval of AUROC at `level`, each label resampled to its own count.

    With `groups` `(N,)` whole groups are resampled (a cluster bootstrap): those of normal images, of anomalous ones,
    and of both, each to their own count. Where all images are ranked rightly, or all wrongly, every resample is as
    the whole, and the interval is `edge_bound` to 1, or 0 to its mirror image.
    """
    _check_both_labels(labels, scores)
    parts = [scores[labels == label] for label in (0, 1)]
    for (low_part, high_part), mirror in ((parts, False), (parts[::-1], True)):
        if low_part.max() < high_part.min():
            units = np.arange(labels.size) if groups is None else groups
            bound = edge_bound(*(np.unique(units[labels == label]).size for label in (0, 1)), level)
            return (0.0, 1 - bound) if mirror else (bound, 1.0)
    block = max(_DRAWS // labels.size, 1)
    drawn = (_draw(labels, groups, min(block, resamples - start), generator) for start in range(0, resamples, block))
    areas = np.concatenate([image_aurocs(labels, scores, weights) for weights in drawn])
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draw(labels: np.ndarray, groups: np.ndarray | None, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Return `(rows, N)`: how often each image is drawn, each label, or kind of group, to its own count."""
    if groups is not None:
        return draw_groups(labels, groups, rows, generator)
    weights = np.empty((rows, labels.size), dtype=np.int64)
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        drawn = generator.integers(own.size, size=(rows, own.size)) + own.size * np.arange(rows)[:, None]
        weights[:, own] = np.bincount(drawn.ravel(), minlength=rows * own.size).reshape(rows, own.size)
    return weights


def edge_bound(normal: int, anomalous: int, level: float = 0.95) -> float:
    """Return the lower end of an interval of AUROC where so many images, or groups, of either kind rank without error.

    A bootstrap and DeLong's variance give an interval without width there. This is the smallest A whose distance from 1
    is z standard errors at A, by Hanley and McNeil's variance with (N + M) / 2 - 1 for both counts: method 5 of
    Newcombe (2006), Statistics in Medicine 25, 559-573, which holds its level up to the edge.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z, mean = ndtri((1 + level) / 2), (normal + anomalous) / 2 - 1

    def excess(area: float) -> float:
        spread = area * (1 + mean * (1 - area) / (2 - area) + mean * area / (1 + area)) / (normal * anomalous)
        return 1 - area - z * z * spread  # (1 - A)^2 = z^2 Var(A), both by 1 - A

    return float(brentq(excess, 0.0, 1.0))


def draw_groups(labels: np.ndarray, groups: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return `(resamples, N)`: how often each image is drawn with its group, whole groups with replacement.

    Groups of normal images, of anomalous ones, and of both are each drawn to their own count, so that no resample
    lacks a label.
    """
    names, member = np.unique(groups, return_inverse=True)
    held = sum((1 + label) * (np.bincount(member, labels == label, len(names)) > 0) for label in (0, 1))
    drawn = np.zeros((resamples, len(names)), dtype=np.int32)
    for stratum in np.unique(held):
        own = np.flatnonzero(held == stratum)
        drawn[:, own] = generator.multinomial(own.size, np.full(own.size, 1 / own.size), resamples)
    return drawn[:, member]


def image_aurocs(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return image AUROC under each row of `weights` `(R, N)`, for `labels` and `scores` `(N,)`; ties count half."""
    ranks = np.unique(scores, return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    areas = []
    for block in _blocks(weights, labels.size):
        by_rank = [np.add.reduceat((block * (labels == label))[:, order], starts, axis=1) for label in (0, 1)]
        areas.append(_areas(*by_rank))
    return np.concatenate(areas)


def pixel_aurocs(normal: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return pixel AUROC under each row of `weights` `(R, N)` from histograms `(N, bins)`; a shared bin counts half."""
    # Matrix products of floats, not of integers, have a fast routine; counts below 2^53 stay whole.
    histograms = [counts.astype(float) for counts in (normal, anomalous)]
    blocks = _blocks(weights, max(normal.shape))
    return np.concatenate([_areas(*(block.astype(float) @ counts for counts in histograms)) for block in blocks])


def _blocks(weights: np.ndarray, width: int) -> list[np.ndarray]:
    """Split the rows of `weights` so that a block of `width` columns holds about `_DRAWS` numbers."""
    return np.array_split(weights, max(len(weights) * width // _DRAWS, 1))


def _areas(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Return AUROC from counts `(R, bins)` in ascending bins."""
    below = np.cumsum(normal, axis=1) - normal / 2
    return (below * anomalous).sum(1) / (normal.sum(1) * anomalous.sum(1)).astype(float)


def detection_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    resamples: int,
    generator: np.random.Generator,
    groups: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Return image_auroc, its 95 % interval image_auroc_low and image_auroc_high, image_ap and image_f1_max.

    With `groups` `(N,)` the interval is by groups. All are None when only one label is present; raises `InputError` for
    labels and scores that are not usable.
    """
    _check(labels, scores)
    names = ("image_auroc", "image_auroc_low", "image_auroc_high", "image_ap", "image_f1_max")
    if np.unique(labels).size < 2:
        return dict.fromkeys(names)
    low, high = auroc_interval(labels, scores, resamples, generator, groups=groups)
    values = (image_auroc(labels, scores), low, high, image_ap(labels, scores), image_f1_max(labels, scores))
    return dict(zip(names, values, strict=True))


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise InputError(
            f"labels have shape {labels.shape} and scores {scores.shape}; give one label and score an image"
        )
    if not np.isin(labels, (0, 1)).all():
        raise InputError(f"labels are {np.unique(labels).tolist()}; use 0 for normal and 1 for anomalous")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        raise InputError(
            f"{wrong.size} scores are not finite, the first at position {wrong[0]}; make all of them numbers"
        )


def _check_both_labels(labels: np.ndarray, scores: np.ndarray) -> None:
    _check(labels, scores)
    if np.unique(labels).size < 2:
        raise InputError(
            f"labels are all {labels[0] if labels.size else 'absent'}; ranking needs normal and anomalous images"
        )


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
