"""From scores to decisions: a threshold on held-out normal images."""

import numpy as np
import pandas as pd

from kdad.images.splits import Split
from kdad.scoring.threshold import Threshold, quantile_threshold

#: Of training images that detectors fitted without their fold have scored.
FOLD_COLUMNS = ["id", "fold", "score"]


def decide(
    split: Split, rows: np.ndarray, scores: np.ndarray, quantile: float, fold_scores: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold on held-out normal scores and decide on every scored image.

    `scores` `(N,)` belong to `rows` of the split table; `fold_scores` (`FOLD_COLUMNS`) are of training images by
    detectors that have not seen them, and have a part in the threshold. Returns a row an image (id, label, kind, split,
    score, threshold, decision, 1 = anomalous) and the threshold. Raises `InputError` as `quantile_threshold`.
    """
    table = split.table.loc[rows, ["id", "label", "kind", "split"]].reset_index(drop=True)
    table["score"] = scores.astype(np.float64)  # what the file says is then what was decided on
    threshold = quantile_threshold(normal_scores(table, fold_scores), quantile)
    if fold_scores is not None and len(fold_scores):
        parts = int(fold_scores["fold"].max()) + 1  # the held-out images are one
        threshold = threshold.model_copy(update={"scores_of": "folds", "folds": parts})
    table["threshold"] = threshold.value
    table["decision"] = (table["score"] > threshold.value).astype(int)
    return table, threshold


def normal_scores(table: pd.DataFrame, fold_scores: pd.DataFrame | None) -> np.ndarray:
    """Return the scores `(N,)` that a threshold is set on: of held-out images, and of folds where there are some."""
    held_out = table.loc[table["split"] == "validation", "score"].to_numpy()
    if fold_scores is None or fold_scores.empty:
        return held_out
    return np.concatenate([held_out, fold_scores["score"].to_numpy(dtype=np.float64)])
