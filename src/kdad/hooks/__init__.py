"""Kedro hooks: what a run says, logs, and ends with."""

from kdad.hooks.current_run import CurrentRun
from kdad.hooks.errors import MissingInputHook, RunErrorHook
from kdad.hooks.kept_results import KeptResultsHook
from kdad.hooks.places import PlaceLockHook, PlaceOwnerHook
from kdad.hooks.run_log import RunLogHook
from kdad.hooks.run_report import RunReportHook
from kdad.hooks.run_tracking import RunTrackingHook
from kdad.hooks.stage_lines import StageLinesHook
from kdad.hooks.start_up import StartUpHook
from kdad.hooks.variant_log import VariantLogHook

__all__ = [
    "CurrentRun",
    "KeptResultsHook",
    "MissingInputHook",
    "PlaceLockHook",
    "PlaceOwnerHook",
    "RunErrorHook",
    "RunLogHook",
    "RunReportHook",
    "RunTrackingHook",
    "StageLinesHook",
    "StartUpHook",
    "VariantLogHook",
]
