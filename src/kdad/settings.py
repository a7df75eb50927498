"""Kedro's settings of this project."""

import os
import warnings

# GitPython, which MLflow asks for a commit too, would refuse to be imported where there is no git, in many lines.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

# OmegaConf deprecates a call that Kedro's resolvers make; no user can act on it.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="omegaconf|kedro")
warnings.filterwarnings("ignore", message=".*register_resolver.*")

# Data sets are named after their system or plan.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")

# MLflow asks the internet at each start whether it may send who uses what; Kedro's telemetry is off as well.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from kdad.hooks.errors import MissingInputHook, RunErrorHook  # noqa: E402
from kdad.hooks.kept_results import KeptResultsHook  # noqa: E402
from kdad.hooks.places import PlacesHook  # noqa: E402
from kdad.hooks.run_log import RunLogHook, VariantLogHook  # noqa: E402
from kdad.hooks.run_report import RunReportHook  # noqa: E402
from kdad.hooks.run_tracking import CurrentRun, RunTrackingHook  # noqa: E402
from kdad.hooks.stage_lines import StageLinesHook  # noqa: E402
from kdad.hooks.start_up import StartUpHook, defer_commands  # noqa: E402
from kdad.project import LOADER_ARGS  # noqa: E402
from kdad.project.configuration import RunConfigLoader  # noqa: E402
from kdad.project.session import CheckedSession  # noqa: E402

defer_commands()

DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")  # `RunTrackingHook` does its work
_run = CurrentRun()
HOOKS = (
    StartUpHook(),
    RunTrackingHook(_run),
    RunLogHook(_run),
    VariantLogHook(_run),
    KeptResultsHook(),  # after the report
    RunReportHook(_run),
    StageLinesHook(_run),  # after the report, as Kedro calls the last one first
    RunErrorHook(),
    PlacesHook(),  # last but one, so that it is asked before the others
    MissingInputHook(),
)
SESSION_CLASS = CheckedSession
CONFIG_LOADER_CLASS = RunConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
