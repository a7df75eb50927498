"""Kedro hooks; nothing else in the project knows MLflow while a pipeline runs."""

from kdad.hooks.input_errors import InputErrorHook
from kdad.hooks.missing_inputs import MissingInputHook
from kdad.hooks.parameter_log import ParameterLogHook
from kdad.hooks.run_log import RunLogHook
from kdad.hooks.run_report import RunReportHook
from kdad.hooks.variant_log import VariantLogHook

__all__ = [
    "InputErrorHook",
    "MissingInputHook",
    "ParameterLogHook",
    "RunLogHook",
    "RunReportHook",
    "VariantLogHook",
]
