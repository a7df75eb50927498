"""The pipeline `reporting`."""

from kdad.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
