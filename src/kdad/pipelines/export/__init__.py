"""The pipeline `export`: a kept detector as one file of another runtime."""

from kdad.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
