"""Kedro's settings of this project."""

import warnings

# OmegaConf deprecates a call that Kedro's resolvers make; no user can act on it.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="omegaconf|kedro")
warnings.filterwarnings("ignore", message=".*register_resolver.*")

# An ablation's nodes name data sets of other namespaces, as they must.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")

from kdad.conf_files import LOADER_ARGS  # noqa: E402
from kdad.configuration import RunConfigLoader  # noqa: E402
from kdad.hooks import (  # noqa: E402
    InputErrorHook,
    MissingInputHook,
    ParameterLogHook,
    RunLogHook,
    RunReportHook,
    VariantLogHook,
)
from kdad.session import FindingSession  # noqa: E402

DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")  # its hook is `ParameterLogHook` here
HOOKS = (ParameterLogHook(), RunLogHook(), RunReportHook(), VariantLogHook(), InputErrorHook(), MissingInputHook())
SESSION_CLASS = FindingSession
CONFIG_LOADER_CLASS = RunConfigLoader
CONFIG_LOADER_ARGS = LOADER_ARGS
