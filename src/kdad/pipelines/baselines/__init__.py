"""The pipeline `baselines`."""

from kdad.pipelines.baselines.pipeline import create_pipeline

__all__ = ["create_pipeline"]
