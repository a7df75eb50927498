"""The pipeline `features`."""

from kdad.pipelines.features.pipeline import create_pipeline

__all__ = ["create_pipeline"]
