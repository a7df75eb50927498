"""The pipeline `paper_tables`."""

from kdad.pipelines.paper_tables.pipeline import create_pipeline

__all__ = ["create_pipeline"]
