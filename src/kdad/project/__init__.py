"""What a run is given on the command line and in `conf`, and where its results go; how the files of `conf` are read."""

from pathlib import Path
from typing import Any

LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment holds only what differs, at any depth.
    "merge_strategy": {"parameters": "soft", "globals": "soft", "mlflow": "soft"},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}


def register_project(project: Path) -> None:
    """Make ``${project:mlruns}`` an absolute path inside the project."""
    from omegaconf import OmegaConf  # late: it comes with Kedro, which a server alone does not take

    OmegaConf.register_resolver("project", lambda path: (project / path).as_posix(), replace=True)
