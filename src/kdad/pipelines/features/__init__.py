"""The pipeline `features`."""

from kdad.pipelines.features.pipeline import create_pipeline, create_selection

__all__ = ["create_pipeline", "create_selection"]
