"""Projects to run in, and the real data that some tests need."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "agg"

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs data or programs that are not here, and say so."""
    missing = {
        "real_data": None if (SHARED / "weights").is_dir() else "needs ../shared",
        "browser": None if shutil.which("chromedriver") and shutil.which("chromium") else "needs chromium and chromedriver",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and images."""
    return SHARED


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, migrated once for all tests."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "mlruns"))
    return path


def copy_project(folder: Path, database: Path) -> Path:
    """Make a project of this configuration and code in `folder`, whose outputs and MLflow runs lie there."""
    shutil.copytree(PROJECT / "conf", folder / "conf")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "src").symlink_to(PROJECT / "src")
    shutil.copy(database, folder / "mlflow.db")
    return folder


def run_pipeline(project: Path, env: str = "test", pipeline: str = "__default__", **options) -> None:
    """Run a pipeline of `project` in this process; `options` go to Kedro (``runtime_params``, or those of ``run``)."""
    bootstrap_project(project)
    runtime = options.pop("runtime_params", {})
    with KedroSession.create(project_path=project, env=env, runtime_params=runtime) as session:
        session.run(pipeline_names=[pipeline], **options)


@pytest.fixture
def project(tmp_path: Path, migrated_database: Path) -> Path:
    """A project of its own for one test."""
    return copy_project(tmp_path, migrated_database)


@pytest.fixture
def run(project: Path) -> Callable[..., None]:
    """Run a pipeline in the test's own project."""

    def start(env: str = "test", pipeline: str = "__default__", **options) -> None:
        run_pipeline(project, env, pipeline, **options)

    return start
