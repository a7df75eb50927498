"""The pipeline `cloner`."""

from kdad.pipelines.cloner.pipeline import create_pipeline

__all__ = ["create_pipeline"]
