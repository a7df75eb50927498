"""Numbers in the form that MLflow takes."""

import time
from typing import Any

import pandas as pd
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

_BATCH = 1000  # MLflow's limit a request


def numbers_of(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """List the numbers of nested dictionaries with their dotted names."""
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += numbers_of(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{name}", float(value)))
    return found


def metrics_of(values: dict[str, Any]) -> list[Metric]:
    """Return the numbers of nested dictionaries as metrics of step 0."""
    now = int(time.time() * 1000)
    return [Metric(name, value, now, 0) for name, value in numbers_of(values)]


def history_metrics(history: pd.DataFrame, network: str) -> list[Metric]:
    """Return a loss history (epoch, split, term, value) as metrics ``network.split.term``, the epoch being the step."""
    now = int(time.time() * 1000)
    return [
        Metric(f"{network}.{row.split}.{row.term}", float(row.value), now, int(row.epoch))
        for row in history.itertuples(index=False)
    ]


def log_metrics(client: MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    """Log metrics to a run, as many a request as MLflow takes."""
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
