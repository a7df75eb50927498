"""From scores to decisions: a threshold on held-out normal images."""

from typing import Any

import numpy as np
import pandas as pd

from kdad.scoring.threshold import quantile_threshold


def decide(
    split_table: pd.DataFrame, rows: np.ndarray, scores: np.ndarray, quantile: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Set the threshold on held-out normal scores and decide on every scored image.

    `scores` `(N,)` belong to `rows` of the split table. Returns a row an image (id, label, kind, split, score,
    threshold, decision, 1 = anomalous) and what the threshold promises. Raises `InputError` as `quantile_threshold`.
    """
    table = split_table.loc[rows, ["id", "label", "kind", "split"]].reset_index(drop=True)
    table["score"] = scores.astype(np.float64)  # what the file says is then what was decided on
    held_out = table.loc[table["split"] == "validation", "score"].to_numpy()
    threshold = quantile_threshold(held_out, quantile)
    table["threshold"] = threshold.value
    table["decision"] = (table["score"] > threshold.value).astype(int)
    return table, {
        "value": threshold.value,
        "quantile": quantile,
        "expected_false_positive_rate": threshold.expected_false_positive_rate,
        "held_out_images": threshold.sample_count,
    }
