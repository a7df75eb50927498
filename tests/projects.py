"""Projects of their own for tests: this configuration and code, with outputs and MLflow runs elsewhere."""

import shutil
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).resolve().parents[1]


def copy_project(folder: Path, database: Path) -> Path:
    """Make a project of this configuration and code in `folder`, whose outputs and MLflow runs lie there."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(PROJECT / "conf", folder / "conf")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "data/01_raw").mkdir(parents=True)
    shutil.copy(PROJECT / "data/01_raw/paper_results.csv", folder / "data/01_raw")
    (folder / "src").mkdir()  # Kedro wants it to be there; the installed package is used
    shutil.copy(database, folder / "mlflow.db")
    return folder


def run_pipeline(project: Path, env: str = "test", pipeline: str = "__default__", **options) -> None:
    """Run a pipeline of `project` in this process; `options` go to Kedro (``runtime_params``, or those of ``run``)."""
    bootstrap_project(project)
    runtime = options.pop("runtime_params", {})
    with KedroSession.create(project_path=project, env=env, runtime_params=runtime) as session:
        session.run(pipeline_names=[pipeline], **options)
