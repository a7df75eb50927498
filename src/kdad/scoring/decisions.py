"""From scores to decisions: a threshold on normal validation images."""

import numpy as np
import pandas as pd

from kdad.images.splits import Split
from kdad.scoring.threshold import Threshold, quantile_threshold


def decide(split: Split, rows: np.ndarray, scores: np.ndarray, quantile: float) -> tuple[pd.DataFrame, Threshold]:
    """Set the threshold on normal validation scores and decide on every scored image.

    `scores` `(N,)` belong to `rows` of the split table. Returns a row an image (id, label, kind, split, score,
    threshold, decision, 1 = anomalous) and the threshold. Raises `InputError` as `quantile_threshold`.
    """
    table = split.table.loc[rows, ["id", "label", "kind", "split"]].reset_index(drop=True)
    table["score"] = scores.astype(np.float64)  # what the file says is then what was decided on
    threshold = quantile_threshold(validation_scores(table), quantile)
    table["threshold"] = threshold.value
    table["decision"] = (table["score"] > threshold.value).astype(int)
    return table, threshold


def validation_scores(table: pd.DataFrame) -> np.ndarray:
    """Return the scores `(N,)` that a threshold is set on."""
    return table.loc[table["split"] == "validation", "score"].to_numpy()
