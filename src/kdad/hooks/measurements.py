"""A run's results as MLflow's metrics: one name each, the same in all pipelines."""

import time
from typing import Any

import pandas as pd

#: What `metrics.json` says beside results: whose they are, and what they cost.
_NO_RESULTS = ("seed", "image_size", "seconds", "peak_memory_gb", "features_reused", "fitting_reused")


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a run's results: metrics, rates, threshold, counts.

    Of several localisation methods the first has the plain names, and others follow by ``<metric>.<method>``.
    """
    values = {name: value for name, value in metrics.items() if name not in _NO_RESULTS}
    threshold, methods = values.pop("threshold", None), values.pop("localisation", None) or {}
    found = _numbers(values)
    if isinstance(threshold, dict):
        threshold = threshold.get("value")
    if threshold is not None:
        found["threshold"] = float(threshold)
    for method in list(methods)[1:]:
        found |= {f"{name}.{method}": value for name, value in _numbers(methods[method]).items()}
    return found


def loss_series(history: pd.DataFrame, network: str) -> list[tuple[str, float, int, int]]:
    """Return a loss history (epoch, split, term, value) as ``network.split.term`` by epoch: name, value, time, step."""
    now = int(time.time() * 1000)
    return [
        (f"{network}.{row.split}.{row.term}", float(row.value), now, int(row.epoch))
        for row in history.itertuples(index=False)
    ]


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found
