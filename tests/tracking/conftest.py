"""A local database as the destination, and runs that go there."""

import shutil
from pathlib import Path

import mlflow
import pytest

from kdad.tracking.destination import Destination


@pytest.fixture
def destination(tmp_path: Path, migrated_database: Path) -> Destination:
    """A database of its own for one test."""
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return Destination(f"sqlite:///{tmp_path / 'mlflow.db'}", "kdad", str(tmp_path / "mlruns"))


@pytest.fixture
def logged(destination: Destination):
    """A function that returns the logged runs, the latest first."""

    def runs() -> list[mlflow.entities.Run]:
        client = mlflow.MlflowClient(destination.uri)
        found = client.search_experiments(filter_string="name != 'Default'")
        return client.search_runs([one.experiment_id for one in found], order_by=["attributes.start_time DESC"])

    return runs
