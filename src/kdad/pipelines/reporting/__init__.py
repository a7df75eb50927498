"""The last step of every system: what was measured, drawn and kept."""

from kdad.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
