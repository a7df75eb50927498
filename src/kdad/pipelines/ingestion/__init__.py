"""The pipeline `ingestion`."""

from kdad.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
