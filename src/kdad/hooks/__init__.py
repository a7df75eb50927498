"""Kedro hooks; nothing else in the project knows MLflow."""

from kdad.hooks.input_errors import InputErrorHook
from kdad.hooks.run_log import RunLogHook
from kdad.hooks.variant_log import VariantLogHook

__all__ = ["InputErrorHook", "RunLogHook", "VariantLogHook"]
