"""The pipeline `ingestion`."""

from kdad.pipelines.ingestion.pipeline import create_patches, create_pipeline, create_report

__all__ = ["create_patches", "create_pipeline", "create_report"]
