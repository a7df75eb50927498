"""Kedro hooks; nothing else in the project knows MLflow while a pipeline runs."""

from kdad.hooks.full_disk import FullDiskHook
from kdad.hooks.input_errors import InputErrorHook
from kdad.hooks.parameter_log import ParameterLogHook
from kdad.hooks.place_lock import PlaceLockHook
from kdad.hooks.run_log import RunLogHook
from kdad.hooks.run_report import RunReportHook
from kdad.hooks.variant_log import VariantLogHook

__all__ = [
    "FullDiskHook",
    "InputErrorHook",
    "ParameterLogHook",
    "PlaceLockHook",
    "RunLogHook",
    "RunReportHook",
    "VariantLogHook",
]
