"""The pipeline `soft_target`."""

from kdad.pipelines.soft_target.pipeline import create_pipeline

__all__ = ["create_pipeline"]
